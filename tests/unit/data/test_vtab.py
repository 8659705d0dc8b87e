from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from glorasearch.data import DataConfig, InputSpec, check_source, load_search_data, load_search_split, load_splits
from glorasearch.data.sources import read_source
from glorasearch.data.sources.vtab import CLASSES, GROUPS
from glorasearch.errors import DataError

KITTI = {"train800": [0, 1, 2, 3] * 4, "val200": [3, 2, 1, 0] * 2, "test": [0, 0, 1, 1, 2, 3]}


def config(folder: Path, **values: Any) -> DataConfig:
    return DataConfig(source=f"vtab:{folder}", **values)


def test_the_nineteen_tasks() -> None:
    assert len(CLASSES) == 19
    assert sorted(CLASSES) == sorted(task for tasks in GROUPS.values() for task in tasks)
    assert sum(CLASSES.values()) == 940


@pytest.mark.parametrize("task", sorted(CLASSES))
def test_every_task_is_read(task: str, write_vtab: Any, spec: InputSpec) -> None:
    every = list(range(CLASSES[task]))
    folder = write_vtab(task, {"train800": every, "val200": every[:2], "test": every[-3:]})
    splits = load_splits(config(folder), spec)
    assert splits.classes == CLASSES[task]
    assert splits.train.labels.tolist() == every
    assert splits.search.labels.tolist() == every[:2]
    assert splits.test.labels.tolist() == every[-3:]
    assert splits.describe()["search"]["classes_without_images"] == len(every) - 2


def test_images_are_the_named_ones(write_vtab: Any) -> None:
    folder = write_vtab("kitti", KITTI)
    native = InputSpec(3, 10, 12, (0.0,) * 3, (1.0,) * 3, crop_mode="squash")
    splits = load_splits(config(folder), native)
    images, labels = splits.search.batch(torch.tensor([5]))
    with Image.open(folder / "images/val200/000005.png") as image:
        expected = torch.tensor(list(image.convert("RGB").tobytes())).view(10, 12, 3).permute(2, 0, 1) / 255
    assert torch.equal(images[0], expected)
    assert labels.tolist() == [2]
    assert splits.train_and_search().labels.tolist() == KITTI["train800"] + KITTI["val200"]


@pytest.mark.parametrize("name", ["train800", "val200", "train800val200", "test"])
def test_a_missing_list_file(name: str, write_vtab: Any) -> None:
    folder = write_vtab("kitti", KITTI)
    (folder / f"{name}.txt").unlink()
    with pytest.raises(DataError, match=rf"{name}\.txt is missing"):
        check_source(config(folder))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("images/val200/000003.png", "malformed line"),
        ("images/val200/000003.png two", "malformed line"),
        ("images/val200/000003.png 1.0", "malformed line"),
        ("images/val200/000003.png ²", "malformed line"),
        ("images/val200/000003.png " + "9" * 5000, "malformed line"),
        ("images/val200/000003.png 4", "label 4 is out of range; kitti has the labels 0 to 3"),
        ("images/val200/000003.png -1", "label -1 is out of range"),
        ("images/val200/9.png 0", r"images/val200/9\.png does not exist"),
        ("images/val200 0", "is not a regular file"),
        ("../kitti/images/val200/000003.png 0", "outside the task's folder"),
        ("/etc/passwd 0", "outside the task's folder"),
    ],
)
def test_a_wrong_line_is_named(line: str, words: str, write_vtab: Any) -> None:
    folder = write_vtab("kitti", KITTI)
    lines = (folder / "val200.txt").read_text().splitlines()
    (folder / "val200.txt").write_text("\n".join([*lines[:3], line, *lines[4:]]) + "\n")
    with pytest.raises(DataError, match=rf"val200\.txt:4: .*{words}"):
        check_source(config(folder))


def test_many_problems_are_told_at_once(write_vtab: Any) -> None:
    folder = write_vtab("kitti", KITTI)
    (folder / "test.txt").write_text("nothing\n" * 9)
    with pytest.raises(DataError, match="9 problems, the first 5:") as caught:
        check_source(config(folder))
    assert str(caught.value).count("test.txt:") == 5


def test_a_list_that_is_no_text(write_vtab: Any) -> None:
    folder = write_vtab("kitti", KITTI)
    (folder / "test.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"test\.txt: cannot be read as text"):
        check_source(config(folder))
    (folder / "test.txt").write_bytes(b"")
    with pytest.raises(DataError, match=r"test\.txt: is empty"):
        check_source(config(folder))


def test_an_empty_class(write_vtab: Any) -> None:
    folder = write_vtab("kitti", {"train800": [0, 1, 3], "val200": [1, 0], "test": [3, 1]})
    with pytest.raises(DataError, match="4 classes, but no list has an image of class 2"):
        check_source(config(folder))


def test_the_union_list_must_be_the_union(write_vtab: Any) -> None:
    folder = write_vtab("kitti", KITTI)
    text = (folder / "train800val200.txt").read_text().splitlines(keepends=True)
    (folder / "train800val200.txt").write_text("".join(text[:-1]))
    with pytest.raises(DataError, match=r"train800val200\.txt: must list .* 24, but lists 23; class 0: 6 and 5"):
        check_source(config(folder))


@pytest.mark.parametrize("task", ["cifar10", "kiti"])
def test_an_unknown_task(task: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"unknown task '{task}' \(did you mean '(cifar|kitti)'"):
        check_source(config(tmp_path / task))


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a folder; it must hold the lists train800\.txt"):
        check_source(config(tmp_path / "svhn"))


def test_the_protocol_fixes_the_sizes(write_vtab: Any) -> None:
    folder = write_vtab("kitti", KITTI)
    with pytest.raises(DataError, match=r"fix the splits; leave out data\.train, data\.search"):
        check_source(config(folder, train=4, search=2))


@pytest.mark.parametrize("name", ["train800", "val200", "test"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_unreadable_image_is_named_before_any_work(name: str, suffix: str, write_vtab: Any, spec: InputSpec) -> None:
    folder = write_vtab("kitti", KITTI, suffix=suffix)
    image = folder / f"images/{name}/000002.{suffix}"
    image.write_bytes(image.read_bytes()[:-20])
    for load in (load_splits, load_search_data):
        with pytest.raises(DataError, match=rf"{name}\.txt:3: .*000002\.{suffix}: cannot be read as an image"):
            load(config(folder), spec)
    image.write_text("no image at all")
    with pytest.raises(DataError, match=rf"{name}\.txt:3: .*cannot be read as an image"):
        load_search_data(config(folder), spec)


def test_a_worker_does_not_decode_the_test_images(write_vtab: Any, spec: InputSpec) -> None:
    """A file whose checksums are right, but whose pixels are nonsense, is seen only by who decodes it."""
    folder = write_vtab("kitti", KITTI)
    image = folder / "images/test/000000.png"
    data = image.read_bytes()
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    chunk = b"IDAT" + bytes(length)
    checksum = struct.pack(">I", zlib.crc32(chunk))
    image.write_bytes(data[:start] + chunk + checksum + data[start + 4 + length + 4 :])
    for load in (load_splits, load_search_data):
        with pytest.raises(DataError, match=r"test\.txt:1: "):
            load(config(folder), spec)
    assert len(load_search_split(config(folder), spec)) == 8


def test_shared_images_are_refused_or_reported(write_vtab: Any, spec: InputSpec) -> None:
    folder = write_vtab("kitti", KITTI)
    (folder / "images/test/000004.png").write_bytes((folder / "images/train800/000007.png").read_bytes())
    with pytest.raises(DataError, match=r"1 images \(16\.7%\) of test are in train") as caught:
        load_search_data(config(folder), spec)
    assert "test.txt:5" in str(caught.value)
    assert "train800.txt:8" in str(caught.value)
    assert "data.allow_overlap" in str(caught.value)
    overlap = load_splits(config(folder, allow_overlap=True), spec).describe()["overlap"]
    assert overlap["train/test"]["images"] == 1
    assert overlap["train/test"]["fraction"] == pytest.approx(1 / 6)
    assert overlap["train/search"]["images"] == 0


def test_one_percent_is_allowed(write_vtab: Any, spec: InputSpec, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_vtab("kitti", KITTI | {"test": [0, 1, 2, 3] * 25})
    (folder / "images/test/000004.png").write_bytes((folder / "images/val200/000007.png").read_bytes())
    splits = load_splits(config(folder), spec)
    assert splits.overlap.images == 1
    assert splits.overlap.worst == 0.01
    assert "1 images are in two splits" in caplog.text


@pytest.mark.parametrize(
    "spelled",
    [
        lambda folder, line: line + "\r",
        lambda folder, line: f"\n  \n{line}\n",
        lambda folder, line: line.replace("/", "\\"),
        lambda folder, line: f"./{line}".replace(" ", "\t"),
        lambda folder, line: f"{folder}/{line}",
        lambda folder, line: f"vtab/{folder.name}/{line}",
    ],
    ids=["CRLF", "blank lines", "backslashes", "tab", "absolute", "from here"],
)
def test_lists_from_elsewhere(
    spelled: Callable[[Path, str], str], write_vtab: Any, spec: InputSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_vtab("kitti", KITTI)
    monkeypatch.chdir(folder.parent.parent)
    before = load_splits(config(folder), spec)
    for path in folder.glob("*.txt"):
        lines = [spelled(folder, line) for line in path.read_text().splitlines()]
        path.write_bytes("\n".join(["\ufeff" + lines[0], *lines[1:]]).encode())
    after = load_splits(config(folder), spec)
    assert [split.digest for split in (after.train, after.search, after.test)] == [
        split.digest for split in (before.train, before.search, before.test)
    ]


def test_a_list_spells_accents_as_it_likes(write_vtab: Any) -> None:
    folder = write_vtab("kitti", KITTI)
    (folder / "images/test/000000.png").rename(folder / "images/test/e\u0301te\u0301.png")
    lines = (folder / "test.txt").read_text().splitlines()
    (folder / "test.txt").write_text("\n".join(["images/test/\u00e9t\u00e9.png 0", *lines[1:]]))
    assert check_source(config(folder)).test == 6


def test_a_pipe_is_no_image(write_vtab: Any) -> None:
    folder = write_vtab("kitti", KITTI)
    (folder / "images/test/000000.png").unlink()
    os.mkfifo(folder / "images/test/000000.png")
    with pytest.raises(DataError, match=r"test\.txt:1: image .* is not a regular file"):
        check_source(config(folder))


@pytest.mark.parametrize("linked", [False, True])
def test_an_image_that_a_list_has_twice(linked: bool, write_vtab: Any) -> None:
    folder = write_vtab("kitti", KITTI)
    again = "images/train800/000000.png"
    if linked:
        os.link(folder / again, folder / "images" / "train800" / "again.png")
        again = "images/train800/again.png"
    lists = [folder / f"{name}.txt" for name in ("train800", "train800val200")]
    plain = [path.read_text() for path in lists]
    for path, text in zip(lists, plain, strict=True):
        path.write_text(f"{text}{again} 0\n")
    source = read_source(config(folder))
    assert (len(source.train), source.ignored) == (16, {"further names of a file": 1})
    for path, text in zip(lists, plain, strict=True):
        path.write_text(f"{text}{again} 1\n")
    with pytest.raises(DataError, match=r"train800\.txt: .*000000\.png and .*: one file in two classes"):
        check_source(config(folder))
