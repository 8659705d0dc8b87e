"""Small image trees, written for real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glorasearch.data import InputSpec

TreeWriter = Callable[..., Path]


def random_image(seed: int, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Image.Image:
    """An image that no other seed gives; `size` is (width, height)."""
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture
def spec() -> InputSpec:
    return InputSpec(channels=3, height=8, width=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


@pytest.fixture
def write_vtab(tmp_path: Path) -> TreeWriter:
    """Writes a task of VTAB-1k's layout; returns its folder."""

    def write(task: str, labels: Mapping[str, list[int]], suffix: str = "png") -> Path:
        folder = tmp_path / "vtab" / task
        lines: dict[str, list[str]] = {}
        for part, (name, own) in enumerate(labels.items()):
            (folder / "images" / name).mkdir(parents=True)
            for number, label in enumerate(own):
                file = f"images/{name}/{number:06d}.{suffix}"
                random_image(10_000 * part + number).save(folder / file)
                lines.setdefault(name, []).append(f"{file} {label}\n")
        lines.setdefault("train800val200", lines["train800"] + lines["val200"])
        for name, own_lines in lines.items():
            (folder / f"{name}.txt").write_text("".join(own_lines))
        return folder

    return write


@pytest.fixture
def write_folder(tmp_path: Path) -> TreeWriter:
    """Writes `<folder>/<class>/<number>.png`; returns the folder."""

    def write(name: str, counts: Mapping[str, int], first_seed: int = 0, suffix: str = "png") -> Path:
        folder = tmp_path / name
        seed = first_seed
        for label, count in counts.items():
            (folder / label).mkdir(parents=True)
            for number in range(count):
                random_image(seed).save(folder / label / f"{number}.{suffix}")
                seed += 1
        return folder

    return write
