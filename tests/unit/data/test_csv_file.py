"""CSV files that list images: classes, several labels an image, splits, and what is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.labelled import LABELS, write_labelled

from glorasearch.data import DataConfig, InputSpec, load_splits, pack_search_split, unpack_search_split
from glorasearch.errors import ConfigError, DataError, InputError
from glorasearch.tasks import MULTILABEL

SPEC = InputSpec(1, 8, 8, (0.5,), (0.5,))


def config(path: Path, **options: Any) -> DataConfig:
    return DataConfig(source=f"csv:{path}", **({"task": "multilabel"} | options))


def rewrite(path: Path, change: Any) -> Path:
    """The file with every line changed, by its number from 0 and its cells."""
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join(change(number, cells)) for number, cells in enumerate(lines)) + "\n")
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write_labelled(tmp_path, 60)


def test_several_labels_an_image(labelled: Path) -> None:
    splits = load_splits(config(labelled), SPEC)
    assert (splits.class_names, splits.train.task, splits.classes) == (LABELS, MULTILABEL, 3)
    assert [len(one) for one in (splits.train, splits.search, splits.test)] == [36, 12, 12]
    rows = dict(line.split(",", 1) for line in labelled.read_text().splitlines()[1:])
    for role, split in (("train", splits.train), ("search", splits.search), ("test", splits.test)):
        assert split.labels.dtype is torch.float32
        for file, target in zip(splits.files[role], split.labels.int().tolist(), strict=True):
            assert rows[Path(file).name] == ",".join(map(str, target))
    assert "at random" in splits.train.origin
    described = splits.describe()
    assert described["task"] == "multilabel"
    assert described["search"]["class_images"] == splits.search.labels.sum(0).int().tolist()
    images, targets = splits.train_and_search().batch(slice(0, 40))
    assert (images.shape, targets.shape) == ((40, 1, 8, 8), (40, 3))
    again = unpack_search_split(pack_search_split(splits.search, normalised=False))
    assert (again.digest, again.task) == (splits.search.digest, MULTILABEL)
    assert splits.search.digest == load_splits(config(labelled), SPEC).search.digest
    other = rewrite(labelled, lambda n, cells: cells if n == 0 else [cells[0], *cells[2:], cells[1]])
    assert load_splits(config(other), SPEC).search.digest != splits.search.digest


def test_a_column_of_splits_and_a_root(labelled: Path, tmp_path: Path) -> None:
    roles = ["train"] * 40 + ["val"] * 10 + ["Test"] * 10
    rewrite(labelled, lambda n, cells: [*cells, "split" if n == 0 else roles[n - 1]])
    moved = tmp_path / "lists" / "labels.csv"
    moved.parent.mkdir()
    labelled.rename(moved)
    splits = load_splits(config(moved, root=str(tmp_path)), SPEC)
    assert [len(one) for one in (splits.train, splits.search, splits.test)] == [40, 10, 10]
    assert splits.files["test"] == [str(tmp_path / f"{number}.png") for number in range(50, 60)]
    assert splits.class_names == LABELS


def test_one_class_an_image(labelled: Path) -> None:
    words = {"0": "odd", "1": "even", "even": "label"}
    rewrite(labelled, lambda n, cells: [cells[0], words[cells[1]]])
    splits = load_splits(config(labelled, task="classify"), SPEC)
    assert (splits.class_names, splits.train.labels.dtype) == (("even", "odd"), torch.int64)


CASES: list[tuple[Any, str]] = [
    (lambda n, cells: [*cells[:3], "2"] if n == 5 else cells, "labels.csv:6: label 'loop' is '2'; expected 0 or 1"),
    (lambda n, cells: cells[:3] if n == 7 else cells, "labels.csv:8: has 3 cells, the header 4"),
    (lambda n, cells: ["", *cells[1:]] if n == 2 else cells, "labels.csv:3: names no file"),
    (lambda n, cells: cells[:1], "it has no column of labels; expected a header file,cat,dog"),
    (lambda n, cells: ["file", "a", "a", "b"] if n == 0 else cells, "columns 'a' are there more than once"),
    (lambda n, cells: ["file", "a; b", "a", "b"] if n == 0 else cells, "label 'a; b': '; ' stands between the labels"),
    (lambda n, cells: ["file", "a;", "a", "b"] if n == 0 else cells, "label 'a;': '; ' stands between the labels"),
    (lambda n, cells: [*cells[:3], "0"] if n else cells, "1 of 3 labels are empty, with no image among the 36"),
    (lambda n, cells: ["none.png", *cells[1:]] if n == 4 else cells, "labels.csv:5: .*none.png"),
    (lambda n, cells: ["0.png", "0", "0", "0"] if n in (3, 4) else cells, "one file in two classes"),
    (lambda n, cells: [*cells, "split" if n == 0 else "dev"], "labels.csv:2: split is 'dev'; expected train, val or"),
    (lambda n, cells: [*cells, "split" if n == 0 else "test"], "has no images to train on"),
]


@pytest.mark.parametrize(("change", "message"), CASES)
def test_what_is_refused(labelled: Path, change: Any, message: str) -> None:
    rewrite(labelled, change)
    with pytest.raises(DataError, match=message):
        load_splits(config(labelled), SPEC)


def test_files_and_tasks_that_do_not_fit(labelled: Path, tmp_path: Path) -> None:
    def refused(message: str, **options: Any) -> None:
        with pytest.raises(InputError, match=message):
            load_splits(DataConfig(**options), SPEC)

    refused("is not a file; expected a header file,cat,dog", source=f"csv:{tmp_path}/no.csv", task="multilabel")
    refused('several labels an image need data.task = "multilabel"', source=f"csv:{labelled}")
    refused("the images of 'digits' have one class each; list files", source="digits", task="multilabel")
    labelled.write_bytes(b"file,a\n\xff\xfe,1\n")
    refused("cannot be read as CSV in UTF-8", source=f"csv:{labelled}", task="multilabel")
    with pytest.raises(ConfigError, match="root belongs"):
        DataConfig(source="digits", root="there")


def test_a_matrix_in_an_archive(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (40, 8, 8), np.uint8), rng.integers(0, 2, (40, 3))
    path = tmp_path / "several.npz"

    def load(task: str = "multilabel", **arrays: Any) -> Any:
        np.savez(path, **({"x": x, "y": y} | arrays))
        return load_splits(DataConfig(source=f"npz:{path}", task=task), SPEC)

    splits = load(classes=np.array(["a", "b", "c"]))
    assert (splits.class_names, splits.train.labels.shape) == (("a", "b", "c"), (24, 3))
    assert load(y=y.astype(bool)).class_names == ("0", "1", "2")
    for message, options in {
        r"y\[0, 0\] is 2; expected 0 or 1": {"y": y * 0 + 2},
        r"expected \(40, labels\) of 0 and 1": {"y": y[:, 0]},
        "2 names in 'classes' are not those of 3 columns": {"classes": np.array(["a", "b"])},
        "label 'a; b': '; ' stands between": {"classes": np.array(["a; b", "a", "b"])},
        'a matrix of 0 and 1 needs data.task = "multilabel"': {"task": "classify"},
    }.items():
        with pytest.raises(DataError, match=message):
            load(**options)
