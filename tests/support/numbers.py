"""Images with numbers in a CSV: digits, their value in a unit of its own, and how much ink they have."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from glorasearch.data.sources.digits import read_digits

TARGETS: Final = ("price", "ink")


def numbers_of(number: int) -> npt.NDArray[np.float64]:
    """`(2,)`: what is to be said of one of the digits."""
    digits = read_digits().train
    pixels = np.asarray(digits.image(number), dtype=np.float64)
    return np.array([1_000 + 25.5 * int(digits.labels[number]), pixels.mean() / 100])


def write_numbers(folder: Path, images: int, targets: int = len(TARGETS)) -> Path:
    """Write so many digits, one file each, and `numbers.csv` beside them, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = read_digits().train
    with (folder / "numbers.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *TARGETS[:targets]])
        for number in range(images):
            Image.fromarray(np.asarray(digits.image(number))).save(folder / f"{number}.png")
            writer.writerow([f"{number}.png", *numbers_of(number)[:targets].tolist()])
    return folder / "numbers.csv"
