"""Arrays of images in a NumPy archive."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from glorasearch.data import DataConfig, InputSpec, check_source, load_splits
from glorasearch.errors import DataError

Arrays = dict[str, npt.NDArray[Any]]


def pixels(count: int, seed: int = 0, shape: tuple[int, ...] = (8, 8, 3)) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write(folder: Path, arrays: Arrays) -> str:
    np.savez_compressed(folder / "my.npz", **arrays)  # type: ignore[arg-type]
    return f"npz:{folder / 'my.npz'}"


def config(source: str, **values: Any) -> DataConfig:
    return DataConfig(source=source, **values)


@pytest.mark.parametrize(("task", "prefix"), [("", ""), ("#shapes", "shapes_"), ("#a_b", "a_b_")])
def test_one_list_is_split_by_class(task: str, prefix: str, tmp_path: Path, spec: InputSpec) -> None:
    other = {"x_of_something_else": pixels(2)}
    source = write(tmp_path, other | {f"{prefix}x": pixels(60), f"{prefix}y": np.arange(60) % 3})
    splits = load_splits(config(source + task, train=30, search=12), spec)
    assert splits.class_names == ("0", "1", "2")
    assert (len(splits.train), len(splits.search), len(splits.test)) == (30, 12, 12)
    for split in (splits.train, splits.search, splits.test):
        assert np.bincount(split.labels).tolist() == [len(split) // 3] * 3


def test_positions_fix_the_splits(tmp_path: Path, spec: InputSpec) -> None:
    images, labels = pixels(50), np.arange(50) % 5
    order = np.random.RandomState(1003).permutation(50)
    arrays = {"t_x": images, "t_y": labels, "t_train": order[:30], "t_search": order[30:40], "t_test": order[40:]}
    source = write(tmp_path, arrays) + "#t"
    splits = load_splits(config(source), spec)
    for split, own in ((splits.train, order[:30]), (splits.search, order[30:40]), (splits.test, order[40:])):
        shown, classes = split.batch(slice(None))
        expected = images[own].astype(np.float64) / 255
        expected = (expected - np.array(spec.mean)) / np.array(spec.std)
        np.testing.assert_allclose(shown.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)
        assert classes.tolist() == labels[own].tolist()
    assert splits.describe()["search"]["origin"] == "my.npz, t_search"
    with pytest.raises(DataError, match=r"its lists fix the splits; leave out data\.train"):
        check_source(config(source, train=3))


@pytest.mark.parametrize(
    ("names", "search"),
    [
        (("x_train", "y_train", "x_test", "y_test"), None),
        (("x_train", "y_train", "x_test", "y_test", "x_search", "y_search"), 10),
        (("train_images", "train_labels", "test_images", "test_labels", "val_images", "val_labels"), 10),
        (("train_images", "train_labels", "test_images", "test_labels", "search_images", "search_labels"), 10),
    ],
)
def test_arrays_for_each_split(names: tuple[str, ...], search: int | None, tmp_path: Path) -> None:
    arrays: Arrays = {}
    for number, (images, labels) in enumerate(zip(names[::2], names[1::2], strict=True)):
        size = (40, 20, 10)[number]
        arrays |= {images: pixels(size, number, (8, 8)), labels: (np.arange(size) % 2)[:, None]}
    summary = check_source(config(write(tmp_path, arrays)))
    assert (summary.train, summary.search, summary.test) == ((32, 8, 20) if search is None else (40, search, 20))


def test_grey_images_and_names_of_classes(tmp_path: Path, spec: InputSpec) -> None:
    images = pixels(20, shape=(9, 7))
    names = np.array(["cat", "dog"])
    with_axis = load_splits(
        config(write(tmp_path, {"x": images[..., None], "y": np.arange(20) % 2, "classes": names})), spec
    )
    without = load_splits(config(write(tmp_path, {"x": images, "y": np.arange(20) % 2})), spec)
    assert with_axis.class_names == ("cat", "dog")
    assert with_axis.train.batch(slice(None))[0].equal(without.train.batch(slice(None))[0])


GOOD: Arrays = {"x": pixels(20), "y": np.arange(20) % 2}
PLACES = {"train": np.arange(10), "search": np.arange(10, 15), "test": np.arange(15, 20)}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"z": np.zeros(3)}, "has no images to train on; expected 'x' and 'y'.*its arrays are 'z'"),
        ({"x": pixels(20)}, "has no array 'y'"),
        (GOOD | {"x": pixels(20) / 255}, r"x is float64 \(20, 8, 8, 3\); expected uint8"),
        (GOOD | {"x": pixels(20, shape=(8, 8, 4))}, r"x is uint8 \(20, 8, 8, 4\)"),
        (GOOD | {"y": np.zeros(20)}, r"y is float64 \(20,\); expected one integer for each of 20 images"),
        (GOOD | {"y": np.zeros(19, int)}, r"y is int64 \(19,\)"),
        (GOOD | {"y": np.zeros((20, 2), int)}, r"y is int64 \(20, 2\)"),
        (GOOD | {"y": np.arange(20) - 1}, "label -1 is out of range"),
        (GOOD | {"y": np.array(list("ab") * 10, object)}, "array 'y' cannot be read"),
        (GOOD | {"train": np.arange(10)}, "has positions of train, but not of search, test; give all three or none"),
        (GOOD | PLACES | {"test": np.arange(15, 21)}, "test has positions from 15 to 20; there are 20 images"),
        (GOOD | PLACES | {"search": np.array([1, 1])}, "search has an image twice"),
        (GOOD | PLACES | {"search": np.ones(20, bool)}, "search is bool"),
    ],
)
def test_wrong_arrays_are_named(arrays: Arrays, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        check_source(config(write(tmp_path, arrays)))


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz is not a file"):
        check_source(config(f"npz:{tmp_path / 'nowhere.npz'}#t"))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DataError, match=r"as a NumPy archive: it is another kind of file, or holds Python objects$"):
        check_source(config(f"npz:{tmp_path / 'text.npz'}"))
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="a single array"):
        check_source(config(f"npz:{tmp_path / 'one.npz'}"))


def test_shared_images_are_refused(tmp_path: Path, spec: InputSpec) -> None:
    arrays = GOOD | PLACES | {"test": np.arange(9, 20)}
    with pytest.raises(DataError, match=r"of test are in search"):
        load_splits(config(write(tmp_path, arrays)), spec)


@pytest.mark.parametrize("label", [60, 10**7, 10**12])
def test_a_label_beyond_the_number_of_images_is_no_list_of_so_many_classes(label: int, tmp_path: Path) -> None:
    labels = np.arange(60) % 3
    labels[0] = label
    with pytest.raises(DataError, match=f"label {label} is out of range: 60 images have 60 classes at most"):
        check_source(config(write(tmp_path, {"x": pixels(60), "y": labels})))


def test_an_array_that_has_not_what_its_header_says_is_given_no_room(tmp_path: Path) -> None:
    source = write(tmp_path, {"x": pixels(60), "y": np.arange(60) % 3})
    with zipfile.ZipFile(tmp_path / "my.npz") as file:
        members = {name: file.read(name) for name in file.namelist()}
    claimed = members["x.npy"].replace(b"(60, 8, 8, 3), }          ", b"(600000000000, 8, 8, 3), }")
    assert claimed != members["x.npy"]
    with zipfile.ZipFile(tmp_path / "my.npz", "w") as file:
        for name, content in (members | {"x.npy": claimed}).items():
            file.writestr(name, content)
    with pytest.raises(DataError, match=r"its header says uint8 \(600000000000, 8, 8, 3\), which are not the 11,520"):
        check_source(config(source))
