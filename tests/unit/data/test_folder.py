from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glorasearch.data import DataConfig, InputSpec, check_source, load_splits
from glorasearch.errors import DataError


def config(folder: Path, **values: Any) -> DataConfig:
    return DataConfig(source=f"folder:{folder}", **values)


def test_a_flat_folder_is_split_by_class(write_folder: Any, spec: InputSpec) -> None:
    folder = write_folder("set", {"class10": 10, "class2": 20, "Other": 30})
    splits = load_splits(config(folder), spec)
    assert splits.class_names == ("class2", "class10", "Other")
    assert (len(splits.train), len(splits.search), len(splits.test)) == (36, 12, 12)
    for split in (splits.train, splits.search, splits.test):
        assert np.bincount(split.labels).tolist() == [len(split) // 3, len(split) // 6, len(split) // 2]
    assert load_splits(config(folder, seed=1), spec).test.digest != splits.test.digest


def test_split_folders_are_honoured(write_folder: Any, spec: InputSpec) -> None:
    folder = write_folder("set/train", {"a": 6, "b": 4}).parent
    write_folder("set/val", {"a": 2, "b": 3}, first_seed=100)
    write_folder("set/test", {"b": 4}, first_seed=200)
    splits = load_splits(config(folder), spec)
    assert (len(splits.train), len(splits.search), len(splits.test)) == (10, 5, 4)
    assert splits.test.labels.tolist() == [1, 1, 1, 1]
    assert splits.describe()["search"]["origin"] == str(folder / "val")
    assert len(load_splits(config(folder, search=2, test=0.5, train=7), spec).search) == 2


def test_a_missing_split_is_taken_out_of_training(write_folder: Any) -> None:
    folder = write_folder("set/train", {"a": 30, "b": 20}).parent
    write_folder("set/test", {"a": 5, "b": 5}, first_seed=100)
    summary = check_source(config(folder))
    assert (summary.train, summary.search, summary.test) == (40, 10, 10)
    write_folder("set/search", {"a": 2, "b": 2}, first_seed=200)
    summary = check_source(config(folder))
    assert (summary.train, summary.search, summary.test) == (50, 4, 10)


def test_classes_may_be_called_like_splits(write_folder: Any) -> None:
    summary = check_source(config(write_folder("set", {"train": 5, "test": 5})))
    assert summary.class_names == ("test", "train")


def test_one_split_two_folders(write_folder: Any) -> None:
    folder = write_folder("set/train", {"a": 3, "b": 3}).parent
    write_folder("set/val", {"a": 3})
    write_folder("set/search", {"a": 3})
    with pytest.raises(DataError, match="search/ and val/ both stand for the search split"):
        check_source(config(folder))


def test_an_empty_class(write_folder: Any) -> None:
    folder = write_folder("set", {"a": 3, "b": 3, "c": 0})
    (folder / "c" / "notes.txt").write_text("none yet")
    with pytest.raises(DataError, match=r"class 'c' is empty: no file that ends in \.apng, \.avif, \.avifs"):
        check_source(config(folder))


def test_a_class_that_is_not_trained(write_folder: Any) -> None:
    folder = write_folder("set/train", {"a": 3, "b": 3}).parent
    write_folder("set/test", {"a": 3, "c": 1}, first_seed=50)
    with pytest.raises(DataError, match="class 'c' has no folder in the training split"):
        check_source(config(folder))


def test_no_classes(tmp_path: Path, write_folder: Any) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        check_source(config(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="has no folder; it needs"):
        check_source(config(tmp_path))
    with pytest.raises(DataError, match="has one folder, 'only'"):
        check_source(config(write_folder("one", {"only": 4})))


def test_unreadable_images_are_told_together(write_folder: Any, spec: InputSpec) -> None:
    folder = write_folder("set", {"a": 5, "b": 5})
    (folder / "a" / "1.png").write_bytes(b"")
    (folder / "b" / "4.png").write_bytes(b"\x89PNG\r\n\x1a\nshort")
    with pytest.raises(DataError, match="2 problems") as caught:
        load_splits(config(folder), spec)
    assert str(folder / "a" / "1.png") in str(caught.value)
    assert str(folder / "b" / "4.png") in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_image_is_converted(channels: int, tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    kinds = {
        "gray.png": Image.fromarray(values),
        "rgb.png": Image.fromarray(np.stack([values] * 3, axis=-1)),
        "rgba.png": Image.fromarray(np.stack([values, values, values, 255 - values], axis=-1)),
        "la.png": Image.fromarray(np.stack([values, values], axis=-1), "LA"),
        "wide.png": Image.fromarray(values.astype(np.uint16) * 256 + 7),
        "wide.tif": Image.fromarray(values.astype(np.uint16) * 256 + 9),
        "gray.bmp": Image.fromarray(values).convert("P"),
    }
    for number, label in enumerate(("a", "b")):
        (tmp_path / label).mkdir()
        for name, image in kinds.items():
            image.save(tmp_path / label / name)
        Image.new("L", (8, 8), number).save(tmp_path / label / "other.png")
    spec = InputSpec(channels, 8, 8, (0.0,) * channels, (1.0,) * channels)
    splits = load_splits(config(tmp_path, allow_overlap=True), spec)
    expected = torch.from_numpy(values).expand(channels, 8, 8)
    for split in (splits.train, splits.search, splits.test):
        for image in split.batch(slice(None))[0]:
            pixels = (image * 255).round().to(torch.uint8)
            assert torch.equal(pixels, expected) or (pixels <= 1).all()
