"""Images with several labels in a CSV: digits, which are even or not, above four or not, and have a loop or not."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from glorasearch.data.sources.digits import read_digits

LABELS: Final = ("even", "large", "loop")
LOOPS: Final = (0, 6, 8, 9)


def labels_of(digit: int) -> list[int]:
    """1 for each of `LABELS` that the digit has, 0 for the others."""
    return [int(digit % 2 == 0), int(digit > 4), int(digit in LOOPS)]


def write_labelled(folder: Path, images: int, *, first: int = 0) -> Path:
    """Write so many digits, one file each, and `labels.csv` beside them, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = read_digits().train
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *LABELS])
        for number in range(first, first + images):
            Image.fromarray(np.asarray(digits.image(number))).save(folder / f"{number}.png")
            writer.writerow([f"{number}.png", *labels_of(int(digits.labels[number]))])
    return folder / "labels.csv"
