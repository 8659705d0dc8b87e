"""Small tasks in the layout of VTAB-1k, with real image files.

The rule: an image of class c is a grey square of 28 pixels with noise, in which a bar of 5 bright columns begins at
column 23 * c / (classes - 1), rounded. Whoever looks at where the bar is knows the class. The noise is drawn from a
generator seeded with the image's split and number and the task's name, so all tasks have other images, and every call
writes the same ones.
"""

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from glorasearch.data.sources.vtab import CLASSES

SIZES = {"train800": 160, "val200": 40, "test": 80}
"""Images of each split, dealt to the classes in turn."""


def image(task: str, split: str, number: int) -> Image.Image:
    rng = np.random.default_rng([zlib.crc32(f"{task}/{split}".encode()), number])
    pixels = rng.integers(0, 120, (28, 28, 3))
    begin = round(23 * (number % CLASSES[task]) / (CLASSES[task] - 1))
    pixels[:, begin : begin + 5] += 120
    return Image.fromarray(pixels.astype(np.uint8))


def write_task(root: Path, task: str) -> None:
    folder = root / task
    lines: dict[str, list[str]] = {}
    for split, count in SIZES.items():
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            file = f"images/{split}/{number:06d}.png"
            image(task, split, number).save(folder / file)
            lines.setdefault(split, []).append(f"{file} {number % CLASSES[task]}\n")
    lines["train800val200"] = lines["train800"] + lines["val200"]
    for split, own in lines.items():
        (folder / f"{split}.txt").write_text("".join(own))
