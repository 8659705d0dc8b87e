"""Copies of images in a race: they are in one fold, and trainings on other folds are not taken over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glorasearch.cli.main import run as command_line
from glorasearch.data.sources.digits import read_digits
from glorasearch.db import RaceStore
from glorasearch.runs import Run, RunConfig, Workspace
from glorasearch.runs.earlier_races import EarlierRaces
from glorasearch.runs.race_images import RaceImages

Bench = Any
SIZES = ("data.train=60", "data.search=30", "data.test=30", "race.enabled=true")


def write(folder: Path, images: int, copies: int) -> Path:
    """Digits, the first ones of them so often more that there are `copies` copies."""
    digits = read_digits().train
    chosen = [*range(images), *(number % images for number in range(copies))]
    x = np.stack([np.asarray(digits.image(number)) for number in chosen])
    np.savez(folder / "digits.npz", x=x, y=np.asarray(digits.labels)[chosen])
    return folder / "digits.npz"


@pytest.mark.parametrize("copies", [0, 30])
def test_copies_are_in_one_fold_and_a_part_of_what_a_training_is(
    make_bench: Callable[..., Bench], tmp_path: Path, copies: int
) -> None:
    bench = make_bench(f"data.source=npz:{write(tmp_path, 120 - copies, copies)}", *SIZES)
    session = Run(RunConfig.load(bench.run_file, bench.overrides), Workspace.open(bench.workspace)).session()
    images = RaceImages.of(session.data, 5, 0, search_only=False)
    first = images.split.first_equals()
    assert (len(set(first)) < len(first)) is (copies > 0)
    assert images.folds.tolist() == images.folds[first].tolist()
    common = EarlierRaces(session, RaceStore(session.stored.workspace.database), "cpu")._common
    assert ("copies" in common) is (copies > 0), "an earlier version trained on other folds where there are copies"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("race.folds=35", "race.folds is 35, but of the 90 images of train + search only "),
        ("refit.folds=30", "refit.folds is 30, but of the 30 images of the search split only "),
    ],
)
def test_fewer_different_images_than_folds_are_refused_before_the_training(
    make_bench: Callable[..., Bench],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    override: str,
    message: str,
) -> None:
    bench = make_bench(f"data.source=npz:{write(tmp_path, 40, 80)}", *SIZES, override,
                       *(["race.enabled=false"] if "refit" in override else []))  # fmt: skip
    assert command_line(bench.arguments("run", "--quiet")) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "are different, and an image and its copies are in one fold; allowed are 2 to " in said
    assert not bench.has_stage("train")
