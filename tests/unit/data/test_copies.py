from __future__ import annotations

import shutil
import zlib
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glorasearch.data import DataConfig, InputSpec, load_search_data, load_search_split, load_splits, load_test_split
from glorasearch.data import stratified_split as split
from glorasearch.data.copies import keep_together
from glorasearch.errors import DataError


def config(folder: Path, **values: Any) -> DataConfig:
    return DataConfig(source=f"folder:{folder}", **values)


def together(parts: Sequence[np.ndarray], images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """As `keep_together`; equal images have the same number in `images`."""
    return keep_together(parts, [[bytes([int(image)]) for image in images[part]] for part in parts], labels, 0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=40, max_size=60), st.integers(2, 5), st.integers(0, 99))
def test_equal_images_are_in_one_split(numbers: list[int], classes: int, seed: int) -> None:
    images, generator = np.array(numbers), np.random.default_rng(seed)
    labels = np.where(
        generator.random(len(images)) < 0.9, images % classes, generator.integers(0, classes, len(images))
    )
    parts = split(labels, [len(images) - 20, 8, 8], generator)
    found = together(parts, images, labels)
    assert sorted(np.concatenate(found).tolist()) == sorted(np.concatenate(parts).tolist())
    for one, other in combinations(found, 2):
        assert not set(images[one].tolist()) & set(images[other].tolist())
    assert set(labels[found[0]].tolist()) == set(labels[parts[0]].tolist())
    assert all((np.diff(part) > 0).all() for part in found)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 999))
def test_without_copies_in_two_splits_nothing_changes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, 90).astype(np.int64)
    parts = split(labels, [60, 15, 10], generator)
    images = np.arange(90)
    images[parts[0][:8]] = images[parts[0][0]]
    for one, other in zip(parts, together(parts, images, labels), strict=True):
        assert (one == other).all()


def test_a_copy_changes_places_with_an_image_of_its_class() -> None:
    labels = np.repeat(np.arange(3), 20).astype(np.int64)
    parts = split(labels, [36, 12, 12], np.random.default_rng(0))
    images = np.arange(60)
    for part in (parts[1], parts[2]):
        for label in range(3):
            images[part[labels[part] == label][0]] = parts[0][labels[parts[0]] == label][0]
    found = together(parts, images, labels)
    assert [np.bincount(labels[part]).tolist() for part in found] == [[12] * 3, [4] * 3, [4] * 3]
    assert [len(np.setdiff1d(one, other)) for one, other in zip(found, parts, strict=True)] == [6, 3, 3]


def test_where_every_image_is_there_twice_the_sizes_stay() -> None:
    labels = np.repeat(np.arange(2), 40).astype(np.int64)
    parts = split(labels, [48, 16, 16], np.random.default_rng(0))
    found = together(parts, np.arange(80) // 2, labels)
    assert [len(part) for part in found] == [48, 16, 16]
    assert [np.bincount(labels[part]).tolist() for part in found] == [[24, 24], [8, 8], [8, 8]]


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_copies_in_a_folder(
    memory: float, write_folder: Any, spec: InputSpec, caplog: pytest.LogCaptureFixture
) -> None:
    """Each image of the first class has a copy, and one has one in the second class."""
    folder = write_folder("set", {"a": 20, "b": 40})
    plain = load_splits(config(folder), spec)
    for number in range(20):
        shutil.copy(folder / "a" / f"{number}.png", folder / "a" / f"copy{number}.png")
    shutil.copy(folder / "a" / "0.png", folder / "b" / "odd.png")
    splits = load_splits(config(folder, max_memory_gib=memory), spec)
    assert plain.copies == ""
    assert splits.overlap.images == 0
    assert [len(one) for one in (splits.train, splits.search, splits.test)] == [49, 16, 16]
    text = "21 of 81 images are copies of others, such as "
    assert text in splits.describe()["copies"]
    assert "; 1 of them has another label, such as " in caplog.text
    assert text in caplog.text
    other = config(folder)
    assert load_splits(other, spec).test.digest == load_test_split(other, spec).digest == splits.test.digest
    assert load_search_split(other, spec).digest == load_search_data(other, spec).search.digest == splits.search.digest


@pytest.mark.parametrize("seed", range(3))
def test_progress_ends_at_its_total_where_copies_change_the_sizes_of_the_splits(
    seed: int, write_folder: Any, spec: InputSpec
) -> None:
    folder = write_folder("set", {"a": 4, "b": 5})
    for image, number in product(sorted(folder.glob("?/?.png")), range(6)):
        shutil.copy(image, image.with_name(f"{image.stem}-{number}.png"))
    said: list[tuple[int, int]] = []
    data = load_search_data(config(folder, seed=seed), spec, lambda done, total: said.append((done, total)))
    assert len(data.train) + len(data.search) != 63 - 13
    assert all(done <= total for done, total in said)
    assert said[-1] == (63 + len(data.train) + len(data.search),) * 2


def test_one_copy_among_60_images_changes_two_of_them(write_folder: Any, spec: InputSpec) -> None:
    """As many images as before, and all but the copy and what it changed places with are where they were."""
    folder = write_folder("set", {"a": 30, "b": 30})
    before = load_splits(config(folder), spec)
    test = {
        tuple(image.flatten().tolist()): label for image, label in zip(*before.test.batch(slice(None)), strict=True)
    }
    shutil.copy(folder / "a" / "0.png", folder / "a" / "1.png")
    for seed in range(8):
        after = load_splits(config(folder, seed=seed), spec)
        assert after.overlap.images == 0
        assert [len(one) for one in (after.train, after.search, after.test)] == [36, 12, 12]
    images, _ = load_splits(config(folder), spec).test.batch(slice(None))
    assert sum(tuple(image.flatten().tolist()) not in test for image in images) <= 1


def test_one_image_alone_cannot_be_split(write_folder: Any, spec: InputSpec) -> None:
    folder = write_folder("set", {"a": 5, "b": 5})
    for label in "ab":
        for number in range(5):
            shutil.copy(folder / "a" / "0.png", folder / label / f"{number}.png") if (label, number) != (
                "a",
                0,
            ) else None
    with pytest.raises(DataError, match=r"no image is left for the search split: 9 of 10 images are copies of others"):
        load_splits(config(folder), spec)


def test_a_broken_image_is_found_wherever_it_goes(write_folder: Any, spec: InputSpec) -> None:
    """Its checksums are right: only by decoding it is found, which is done of the test split before the training."""
    folder = write_folder("set", {"a": 15, "b": 15})
    for number in range(5):
        shutil.copy(folder / "a" / f"{number}.png", folder / "a" / f"{number + 5}.png")
    load_search_data(config(folder), spec)
    for number in range(10, 15):
        image = folder / "a" / f"{number}.png"
        data = image.read_bytes()
        start = data.index(b"IDAT")
        length = int.from_bytes(data[start - 4 : start], "big")
        chunk = b"IDAT" + bytes(length)
        checksum = zlib.crc32(chunk).to_bytes(4, "big")
        image.write_bytes(data[:start] + chunk + checksum + data[start + 4 + length + 4 :])
        with pytest.raises(DataError, match=rf"a/{number}\.png: "):
            load_search_data(config(folder), spec)
        image.write_bytes(data)


def test_splits_of_the_source_are_not_changed(write_folder: Any, spec: InputSpec) -> None:
    root = write_folder("own/train", {"a": 9, "b": 9}, first_seed=300).parent
    write_folder("own/test", {"a": 9, "b": 9}, first_seed=300)
    write_folder("own/val", {"a": 9, "b": 9}, first_seed=400)
    with pytest.raises(DataError, match=r"remove them from one of the splits that the source has; or allow"):
        load_splits(config(root), spec)


def test_a_part_of_the_search_split_for_a_refit(write_folder: Any, spec: InputSpec) -> None:
    folder = write_folder("set", {"a": 10, "b": 10})
    data = load_search_data(config(folder, max_memory_gib=0), spec)
    every, chosen = data.train_and_search(), torch.tensor([3, 0])
    some = data.train.with_search(data.search, chosen)
    assert data.train.with_search(data.search, torch.arange(len(data.search))).digest == every.digest
    assert len(some) == len(data.train) + 2
    for one, other in zip(some.batch(slice(len(data.train), None)), data.search.batch(chosen), strict=True):
        assert torch.equal(one, other)
    assert data.search.first_equals() == list(range(len(data.search)))
