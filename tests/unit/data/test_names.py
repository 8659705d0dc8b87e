from __future__ import annotations

import os
import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.readers.reader_image_folder import find_images_and_targets
from timm.utils import natural_key as timms_key

from glorasearch.data import DataConfig, InputSpec, check_source, load_splits
from glorasearch.data.names import natural_key, shown
from glorasearch.errors import ConfigError, DataError
from tests.unit.data.conftest import random_image


def config(folder: Path, **values: Any) -> DataConfig:
    return DataConfig(source=f"folder:{folder}", **values)


@pytest.mark.parametrize(
    "names",
    [
        ["1_red", "blue", "green"],
        ["class10", "class2", "Class1", "10", "9"],
        ["n02_a", "n1_b", "_x", "Zebra", "ant", "1"],
        ["кошка", "狗", "é", "z", "٣", "2"],
    ],
)
def test_classes_are_numbered_as_timm_does(names: list[str], write_folder: Any) -> None:
    folder = write_folder("set", dict.fromkeys(random.Random(0).sample(names, len(names)), 3))
    _, timms = find_images_and_targets(str(folder))
    assert check_source(config(folder)).class_names == tuple(sorted(timms, key=lambda name: timms[name]))


@given(st.lists(st.text("aB1209_.é", max_size=6), max_size=8, unique_by=lambda name: tuple(timms_key(name))))
@settings(max_examples=50, deadline=None)
def test_the_key_orders_as_timms(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == sorted(names, key=timms_key)


def test_accents_in_two_unicode_forms_are_one_class(write_folder: Any) -> None:
    composed, split_up = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = write_folder("set/train", {"a": 4, split_up: 4}).parent
    write_folder("set/val", {"a": 2, composed: 3}, first_seed=50)
    write_folder("set/test", {"a": 2, split_up: 1}, first_seed=90)
    found = check_source(config(root))
    assert found.class_names == ("a", composed)
    assert (found.train, found.search, found.test) == (8, 5, 3)
    write_folder("set/train", {composed: 4}, first_seed=70)
    with pytest.raises(DataError, match="two folders are called 'café', spelled in two Unicode forms; merge them"):
        check_source(config(root))


@pytest.mark.parametrize("source", ["ImageFolder", "torch/image_folder"])
def test_accents_in_two_unicode_forms_in_timms_folders(source: str, write_folder: Any) -> None:
    composed, split_up = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = write_folder("set/train", {"a": 4, composed: 4}).parent
    write_folder("set/test", {"a": 2, split_up: 3}, first_seed=50)
    found = check_source(DataConfig(source=source, root=str(root)))
    assert (found.class_names, found.test) == (("a", composed), 5)
    write_folder("set/train", {split_up: 4}, first_seed=70)
    with pytest.raises(DataError, match="two classes are called 'café', spelled in two Unicode forms; merge them"):
        check_source(DataConfig(source=source, root=str(root)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"caf\xe9", r"class 'caf\\xe9': its name is not UTF-8"),
        (b"x\ny", r"class 'x\\ny': its name has a control character"),
        (b"x\x1b[31m", r"class 'x\\x1b\[31m': its name has a control character"),
        ("x\u2028y".encode(), r"class 'x\\u2028y': its name has a control character"),
        ("x\u202ey".encode(), r"class 'x\\u202ey': its name has a control character"),
        (b" ", r"class ' ': its name is blank"),
    ],
)
def test_a_class_whose_name_cannot_be_published(name: bytes, words: str, write_folder: Any) -> None:
    folder = write_folder("set", {"a": 3, "b": 3})
    os.rename(os.fsencode(folder / "b"), os.fsencode(folder) + b"/" + name)
    with pytest.raises(DataError, match=words) as caught:
        check_source(config(folder))
    assert str(caught.value).encode().decode().isprintable()


@pytest.mark.parametrize("name", ["[bold]", "🦊", "a|b", "👩‍🔬", "pl[ai]n"])
def test_names_that_look_odd_are_names(name: str, write_folder: Any) -> None:
    assert name in check_source(config(write_folder("set", {"other": 3, name: 3}))).class_names


def test_names_of_an_archive_are_checked_too(tmp_path: Path) -> None:
    images = np.zeros((6, 4, 4), np.uint8)
    np.savez(tmp_path / "set.npz", x=images, y=np.arange(6) % 2, classes=np.array(["a", "b\nc"]))
    with pytest.raises(DataError, match=r"class 'b\\nc'"):
        check_source(DataConfig(source=f"npz:{tmp_path}/set.npz"))


def test_a_file_whose_name_is_not_utf8_is_an_image(write_folder: Any, spec: InputSpec) -> None:
    folder = write_folder("set", {"a": 9, "b": 10})
    odd = os.fsencode(folder) + b"/a/\xe9t\n.png"
    random_image(77).save(folder / "new.png")
    os.rename(folder / "new.png", odd)
    splits = load_splits(config(folder), spec)
    assert len(splits.train) + len(splits.search) + len(splits.test) == 20
    with open(odd, "wb") as file:
        file.write(b"broken")
    with pytest.raises(DataError, match=r"a/\\xe9t\\n\.png: cannot be read as an image"):
        load_splits(config(folder), spec)


def test_a_source_whose_path_is_not_utf8() -> None:
    with pytest.raises(ConfigError, match=r"key 'data\.source': .*caf\\udce9"):
        DataConfig(source="folder:" + os.fsdecode(b"/data/caf\xe9"))
    assert shown(os.fsdecode(b"caf\xe9\t")) == r"caf\xe9\t"


def test_the_report_gives_the_names(write_folder: Any, spec: InputSpec) -> None:
    splits = load_splits(config(write_folder("set", {"1_red": 10, "blue": 10})), spec)
    assert splits.describe()["class_names"] == ["1_red", "blue"]
