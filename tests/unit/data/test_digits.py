from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from glorasearch.data import (
    DataConfig,
    InputSpec,
    SearchData,
    SearchSplit,
    Splits,
    TestSplit,
    TrainSplit,
    check_source,
    load_search_data,
    load_splits,
    load_test_split,
)
from glorasearch.data.sources.digits import read_digits
from glorasearch.errors import DataError

GRAY = InputSpec(channels=1, height=8, width=8, mean=(0.25,), std=(0.5,), crop_pct=0.9)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_splits(DataConfig(source="digits"), GRAY)


def test_default_sizes_and_classes(splits: Splits) -> None:
    assert (len(splits.train), len(splits.search), len(splits.test)) == (800, 200, 797)
    assert splits.class_names == tuple("0123456789")
    assert splits.classes == 10
    for split in (splits.train, splits.search, splits.test):
        counts = torch.bincount(split.labels)
        assert split.labels.dtype == torch.int64
        assert counts.min() >= 0.09 * len(split)
        assert counts.max() <= 0.11 * len(split)


def test_every_digit_is_in_one_split(splits: Splits) -> None:
    raw = load_digits()
    values = torch.from_numpy((raw.images.astype(int) * 255 + 8) // 16)
    expected = {(tuple(image.flatten().tolist()), int(label)) for image, label in zip(values, raw.target, strict=True)}
    found = set()
    for split in (splits.train, splits.search, splits.test):
        images, labels = split.batch(slice(None))
        pixels = ((images * 0.5 + 0.25) * 255).round().long()[:, 0]
        found |= {(tuple(image.flatten().tolist()), int(label)) for image, label in zip(pixels, labels, strict=True)}
    assert found == expected
    assert len(found) == 1797


def test_three_types_without_a_public_base(splits: Splits) -> None:
    kinds = (TrainSplit, SearchSplit, TestSplit)
    for split, kind in zip((splits.train, splits.search, splits.test), kinds, strict=True):
        assert [isinstance(split, other) for other in kinds] == [other is kind for other in kinds]
        assert all(base.__name__.startswith("_") for base in kind.__mro__[1:-1])
    assert not hasattr(SearchData(splits.train, splits.search, splits.class_names), "test")


def test_the_same_again_and_another_seed(splits: Splits) -> None:
    again = load_splits(DataConfig(source="digits"), GRAY)
    other = load_splits(DataConfig(source="digits", seed=1), GRAY)
    assert [again.train.digest, again.search.digest, again.test.digest] == [
        splits.train.digest,
        splits.search.digest,
        splits.test.digest,
    ]
    assert torch.equal(again.search.batch(slice(None))[0], splits.search.batch(slice(None))[0])
    assert len({splits.train.digest, splits.search.digest, splits.test.digest, other.train.digest}) == 4


def test_the_seed_0_is_pinned(splits: Splits) -> None:
    """Results in the README depend on it."""
    assert splits.search.labels[:12].tolist() == PINNED_LABELS


PINNED_LABELS = [8, 3, 1, 5, 0, 7, 9, 1, 8, 4, 3, 9]


def test_parts_are_those_of_the_whole(splits: Splits) -> None:
    data = load_search_data(DataConfig(source="digits"), GRAY)
    assert (data.train.digest, data.search.digest) == (splits.train.digest, splits.search.digest)
    assert data.classes == 10
    assert load_test_split(DataConfig(source="digits"), GRAY).digest == splits.test.digest
    assert data.train_and_search().digest == splits.train_and_search().digest


def test_the_content_decides_the_digest(splits: Splits) -> None:
    other_input = load_splits(DataConfig(source="digits", mean=(0.3,)), GRAY)
    assert other_input.train.digest != splits.train.digest
    assert other_input.train.spec.mean == (0.3,)


def test_train_and_search_together(splits: Splits) -> None:
    both = splits.train_and_search()
    assert isinstance(both, TrainSplit)
    assert len(both) == 1000
    images, labels = both.batch(torch.tensor([999, 0, 800, 799]))
    assert torch.equal(images[[0, 2]], splits.search.batch(torch.tensor([199, 0]))[0])
    assert torch.equal(images[[1, 3]], splits.train.batch(torch.tensor([0, 799]))[0])
    assert labels.tolist() == [
        int(splits.search.labels[199]),
        int(splits.train.labels[0]),
        int(splits.search.labels[0]),
        int(splits.train.labels[799]),
    ]


def test_grayscale_becomes_rgb_and_is_never_cropped() -> None:
    rgb = InputSpec(3, 32, 32, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.5)
    split = load_search_data(DataConfig(source="digits", train=20, search=10, test=10), rgb).search
    images, _ = split.batch(slice(None))
    assert images.shape == (10, 3, 32, 32)
    assert torch.equal(images[:, 0], images[:, 1])
    assert (split.spec.interpolation, split.spec.crop_pct) == ("bicubic", 1.0)


def test_sizes_can_be_chosen() -> None:
    assert check_source(DataConfig(source="digits", train=100, search=0.1, test=50)).search == 180
    summary = check_source(DataConfig(source="digits", train=1000))
    assert (summary.train, summary.search, summary.test) == (1000, 200, 597)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"train": 1700}, "1797 images cannot be split into train 1700, search 200, test -103"),
        ({"train": 1597}, "test 0"),
        ({"train": 5}, "classes are empty.*raise data.train"),
    ],
)
def test_impossible_sizes_are_refused(sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_source(DataConfig(source="digits", **sizes))


def test_the_report_is_json_with_all_numbers(splits: Splits) -> None:
    told = splits.describe()
    assert told["source"] == "digits"
    assert told["search"]["images"] == 200
    assert told["search"]["classes_without_images"] == 0
    assert told["overlap"]["train/test"] == {"images": 0, "fraction": 0.0, "examples": []}


def test_importing_brings_no_library_that_a_source_might_not_need() -> None:
    code = "import sys, glorasearch.data; print([m for m in ('timm', 'sklearn', 'torchvision') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_images_are_those_of_scikit_learn() -> None:
    ours, theirs = read_digits(), load_digits()
    assert ours.train.labels.tolist() == theirs.target.tolist()
    assert ours.class_names == tuple(str(name) for name in theirs.target_names)
    for index, image in enumerate(theirs.images):
        assert np.array_equal(np.asarray(ours.train.image(index)), (image * 255 + 8) // 16)


def test_reading_them_does_not_import_scikit_learn() -> None:
    code = "import sys; from glorasearch.data.sources.digits import read_digits; read_digits(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sklearn" not in run.stdout.split()
