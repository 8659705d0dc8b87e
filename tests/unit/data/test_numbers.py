"""Targets that are numbers: read from lists and arrays, refused in words, standardised by the training images."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.numbers import numbers_of, write_numbers

from glorasearch.data import DataConfig, InputSpec, check_source, load_splits
from glorasearch.data.packed import pack_search_split, unpack_search_split
from glorasearch.errors import DataError

SPEC = InputSpec(3, 16, 16, (0.5,) * 3, (0.25,) * 3)
Change = Callable[[int, list[str]], list[str]]


def config(path: Path, **options: int | str) -> DataConfig:
    return DataConfig(source=f"csv:{path}", task="regress", **options)


def test_labels_are_standardised_by_the_training_images(tmp_path: Path) -> None:
    splits = load_splits(config(write_numbers(tmp_path, 60), train=30, search=15, test=15), SPEC)
    assert splits.train.labels.dtype is torch.float32
    assert splits.train.labels.mean(0).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert splits.train.labels.std(0, correction=0).tolist() == pytest.approx([1, 1], abs=1e-5)
    for name, split in (("train", splits.train), ("search", splits.search), ("test", splits.test)):
        wanted = np.array([numbers_of(int(Path(file).stem)) for file in splits.files[name]])
        assert split.task.said(split.labels).numpy() == pytest.approx(wanted, rel=1e-5)
    described = splits.describe()
    assert [one["name"] for one in described["standards"]] == ["price", "ink"]
    assert "stratified by quantiles" in described["test"]["origin"]
    again = unpack_search_split(pack_search_split(splits.search, normalised=False))
    assert (again.digest, again.task) == (splits.search.digest, splits.search.task)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, cells: [*cells[:2], ""] if n == 4 else cells, "numbers.csv:5: target 'ink' is missing"),
        (
            lambda n, cells: [cells[0], "dear", cells[2]] if n == 2 else cells,
            "target 'price' is 'dear'; expected a number",
        ),
        (
            lambda n, cells: [cells[0], "nan", cells[2]] if n == 2 else cells,
            "target 'price' is 'nan'; expected a number",
        ),
        (lambda n, cells: [cells[0], "1_000", cells[2]] if n == 2 else cells, "is '1_000'; expected a number"),
        (
            lambda n, cells: [cells[0], "5", cells[2]] if n else cells,
            "target 'price' is 5 for all .* images of the train",
        ),
        (lambda n, cells: cells[:1], "it has no column of targets"),
        (lambda n, cells: ["0.png", *cells[1:]] if n == 3 else cells, "one file with different numbers"),
        (
            lambda number, cells: ["file", "x", "predicted x"] if not number else cells,
            "targets 'x' and 'predicted x': in tables the latter is what is predicted of the former",
        ),
    ],
)
def test_targets_that_are_none_are_refused_in_words(tmp_path: Path, change: Change, message: str) -> None:
    path = write_numbers(tmp_path, 12)
    with path.open(newline="") as file:
        rows = [change(number, cells) for number, cells in enumerate(csv.reader(file))]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(DataError, match=message):
        check_source(config(path))


def test_arrays_of_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels, wanted = rng.integers(256, size=(30, 8, 8), dtype=np.uint8), rng.standard_normal(30)
    np.savez(tmp_path / "one.npz", x=pixels, y=wanted)
    source = DataConfig(source=f"npz:{tmp_path}/one.npz", task="regress")
    assert (check_source(source).class_names, check_source(source).train) == (("0",), 18)
    wanted[4] = np.nan
    np.savez(tmp_path / "two.npz", x=pixels, y=wanted)
    with pytest.raises(DataError, match=r"y\[4, 0\] is nan; expected a number"):
        check_source(DataConfig(source=f"npz:{tmp_path}/two.npz", task="regress"))
    np.savez(tmp_path / "three.npz", x=pixels, y=np.array(["a"] * 30))
    with pytest.raises(DataError, match=r"expected \(30, targets\) of numbers"):
        check_source(DataConfig(source=f"npz:{tmp_path}/three.npz", task="regress"))
