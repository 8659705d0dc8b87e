"""Small tasks drawn by rules: how many things there are, which way a shape points, which typeface a character has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Task = tuple[Images, Labels]
EDGE = 32
"""Pixels; scenes are drawn four times as large and reduced."""
CANVAS = 4 * EDGE
COUNTS = 8
DIRECTIONS = 12
SHAPES = (
    [(1, 0), (0.7, 2.5), (0.7, -2.5)],
    [(1, 0), (0.45, 1.2), (0.7, 2.6), (0.7, -2.6), (0.45, -1.2)],
    [(1, 0.1), (0.9, -0.1), (0.5, -2.2), (0.6, 2.8), (0.35, 1.5)],
)
"""Polygons that point to the right: (radius, angle) of each corner."""
TYPEFACES = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBolIta.ttf",
    "cmr10.ttf",
    "cmss10.ttf",
    "cmtt10.ttf",
)
"""Of those that matplotlib carries."""
CHARACTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789"


def count(images: int, seed: int = 10) -> Task:
    """One to eight discs, squares and triangles of any colours; the class is their number."""
    rng = np.random.RandomState(seed)
    found, labels = [], []
    for _ in range(images):
        ground, colour = _contrast(rng)
        number = int(rng.randint(COUNTS))
        canvas = Image.new("RGB", (CANVAS, CANVAS), ground)
        pen = ImageDraw.Draw(canvas)
        for x, y, size in _places(rng, number + 1):
            kind = int(rng.randint(3))
            _thing(pen, kind, x, y, size, _visible(rng, colour, ground))
        found.append(_reduced(canvas))
        labels.append(number)
    return np.stack(found), np.array(labels, dtype=np.int64)


def orientation(images: int, seed: int = 11) -> Task:
    """One of three polygons, of any size, place and colour; the class is the twelfth of a turn that it points to."""
    rng = np.random.RandomState(seed)
    found, labels = [], []
    for _ in range(images):
        ground, colour = _contrast(rng)
        canvas = Image.new("RGB", (CANVAS, CANVAS), ground)
        turn = rng.rand() * 2 * np.pi
        size, (x, y) = rng.randint(20, 40), rng.randint(44, 84, 2)
        shape = SHAPES[rng.randint(len(SHAPES))]
        corners = [
            (float(x + size * radius * np.cos(turn + angle)), float(y + size * radius * np.sin(turn + angle)))
            for radius, angle in shape
        ]
        ImageDraw.Draw(canvas).polygon(corners, fill=colour)
        found.append(_reduced(canvas))
        labels.append(int(turn / (2 * np.pi) * DIRECTIONS))
    return np.stack(found), np.array(labels, dtype=np.int64)


def font(images: int, seed: int = 1) -> Task | None:
    """Latin letters and digits near the middle; the class is the typeface. None without matplotlib's fonts."""
    folder = typefaces()
    if folder is None:
        return None
    rng = np.random.RandomState(seed)
    faces = [ImageFont.truetype(str(folder / name), 52) for name in TYPEFACES]
    found, labels = [], []
    for _ in range(images):
        number, character = int(rng.randint(len(faces))), CHARACTERS[rng.randint(len(CHARACTERS))]
        x, y = (int(move) for move in 32 + rng.randint(-6, 7, 2))
        ground, colour = _contrast(rng)
        canvas = Image.new("RGB", (64, 64), ground)
        ImageDraw.Draw(canvas).text((x, y), character, font=faces[number], fill=colour, anchor="mm")
        found.append(_reduced(canvas))
        labels.append(number)
    return np.stack(found), np.array(labels, dtype=np.int64)


def typefaces() -> Path | None:
    """The folder of matplotlib's fonts; None if they are not there."""
    try:
        import matplotlib
    except ImportError:
        return None
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return folder if all((folder / name).is_file() for name in TYPEFACES) else None


Colour = tuple[int, int, int]


def _colour(rng: np.random.RandomState) -> Colour:
    red, green, blue = (int(value) for value in rng.randint(0, 256, 3))
    return red, green, blue


def _distance(one: Colour, other: Colour) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def _contrast(rng: np.random.RandomState) -> tuple[Colour, Colour]:
    while True:
        one, other = _colour(rng), _colour(rng)
        if _distance(one, other) > 200:
            return one, other


def _visible(rng: np.random.RandomState, colour: Colour, ground: Colour) -> Colour:
    """The scene's colour or another one that is seen on the ground."""
    drawn = colour if rng.rand() < 0.5 else _contrast(rng)[0]
    return drawn if _distance(drawn, ground) >= 120 else colour


def _places(rng: np.random.RandomState, number: int) -> list[tuple[int, int, int]]:
    """Centres and sizes of things that do not touch."""
    placed: list[tuple[int, int, int]] = []
    while len(placed) < number:
        size = int(rng.randint(8, 15))
        x, y = (int(value) for value in rng.randint(16, 112, 2))
        if all((x - u) ** 2 + (y - v) ** 2 > (size + other + 3) ** 2 for u, v, other in placed):
            placed.append((x, y, size))
        elif rng.rand() < 0.02:
            placed = []
    return placed


def _thing(pen: Any, kind: int, x: int, y: int, size: int, colour: Colour) -> None:
    box = [x - size, y - size, x + size, y + size]
    match kind:
        case 0:
            pen.ellipse(box, fill=colour)
        case 1:
            pen.rectangle(box, fill=colour)
        case _:
            pen.polygon([(x, y - size), (x - size, y + size), (x + size, y + size)], fill=colour)


def _reduced(canvas: Image.Image) -> Images:
    return np.asarray(canvas.resize((EDGE, EDGE), Image.Resampling.BILINEAR), dtype=np.uint8)
