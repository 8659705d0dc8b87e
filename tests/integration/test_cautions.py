"""A run on data that is too small for it says so, before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def test_too_little_of_everything(
    call: Callable[..., tuple[int, str, str]], tiny_run_file: Path, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    for name, count in {"many": 20, "more": 20, "one": 1}.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    copied = tmp_path / "data" / "many"
    (copied / "copy.png").write_bytes((copied / "0.png").read_bytes())
    settings = (
        f"data.source=folder:{tmp_path / 'data'}", "data.train=32", "data.search=8", "data.test=2", "train.steps=0",
        "search.trials=4", "search.population=2", "search.parents=2", "refit.steps=2", "report.baselines=[]",
    )  # fmt: skip
    overrides = [part for setting in settings for part in ("--set", setting)]

    code, told, progress = call("run", str(tiny_run_file), "--workspace", str(tmp_path / "runs"), *overrides)

    assert code == 0, progress
    both = (
        "train.steps is 0: the scores on the search split are those of a head of random weights",
        "One image alone (train + search) teaches class 'one'.",
        "No test image is of class 'one': accuracies on the test split say nothing of it.",
    )
    assert all(sentence in " ".join(written.split()) for sentence in both for written in (told, progress))
    assert "The test split is small, 2 images: an accuracy there may be off by 41 points (95 %)." in progress
    assert "of 2 test images: its accuracy lies between" in told
    assert "1 of 42 images are copies of others" in told
    assert "No difference between the refitted winner and its inherited weights can be told" in told
