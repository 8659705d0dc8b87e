"""A folder of images as photographs come: drawn on photographs of scikit-learn's, of many sizes and kinds of file.

The rules: an image is a crop of one of the two photographs, blurred, darkened or brightened, sometimes mirrored; on it
is one figure (disc, cross or bars) of a warm or a cold colour, of random size and place: six classes. Sides have 40 to
90 pixels. Kinds of file take turns; those of `ODD` are read differently by programs that ignore EXIF or have 8 bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from sklearn.datasets import load_sample_images

FIGURES: Final = ("bars", "cross", "disc")
COLOURS: Final = {"cold": (40, 90, 230), "warm": (240, 120, 30)}
CLASSES: Final = tuple(f"{colour} {figure}" for colour in COLOURS for figure in FIGURES)
PLAIN: Final = ("photo.jpg", "colours.png", "palette.png", "grey.png", "grey.jpg")
ODD: Final = ("turned.jpg", "sixteen.png")
"""Stored turned, with EXIF that says so; 16 bits a pixel."""
Rng = np.random.Generator


def write_drawings(folder: Path, each: int, seed: int, kinds: tuple[str, ...] = PLAIN) -> None:
    """Write `each` images of every class into folders of their own."""
    rng = np.random.default_rng(seed)
    photographs = [Image.fromarray(one) for one in load_sample_images().images]
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            kind = kinds[number % len(kinds)]
            save(draw(name, photographs, rng), folder / name / f"{number} {kind}", kind)


def draw(name: str, photographs: list[Image.Image], rng: Rng) -> Image.Image:
    """One image of a class, RGB."""
    colour, figure = name.split(" ")
    photograph = photographs[rng.integers(len(photographs))]
    width, height = (int(side) for side in rng.integers(40, 91, 2))
    left, top = int(rng.integers(photograph.width - 3 * width)), int(rng.integers(photograph.height - 3 * height))
    image = photograph.crop((left, top, left + 3 * width, top + 3 * height)).resize((width, height))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = ImageEnhance.Brightness(image).enhance(0.6 + 0.6 * rng.random())
    pen, fill = ImageDraw.Draw(image), tuple(int(v * (0.8 + 0.2 * rng.random())) for v in COLOURS[colour])
    size = int(min(width, height) * (0.45 + 0.3 * rng.random()))
    x, y = int(rng.integers(width - size + 1)), int(rng.integers(height - size + 1))
    third = size // 3
    if figure == "disc":
        pen.ellipse((x, y, x + size, y + size), fill=fill)
    elif figure == "cross":
        pen.rectangle((x + third, y, x + 2 * third, y + size), fill=fill)
        pen.rectangle((x, y + third, x + size, y + 2 * third), fill=fill)
    else:
        for bar in range(3):
            pen.rectangle((x, y + bar * third, x + size, y + bar * third + third // 2), fill=fill)
    return image.filter(ImageFilter.GaussianBlur(0.7))


def save(image: Image.Image, path: Path, kind: str) -> None:
    """Write an image as that kind of file."""
    if kind == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(path, quality=90, exif=exif)
    elif kind == "sixteen.png":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    elif kind == "palette.png":
        image.quantize(64).save(path)
    else:
        image.convert("L" if kind.startswith("grey") else "RGB").save(
            path, **({"quality": 90} if kind.endswith("jpg") else {})
        )
