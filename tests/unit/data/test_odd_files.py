from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glorasearch.data import DataConfig, InputSpec, check_source, load_search_data, load_splits
from glorasearch.data.sources import read_source
from glorasearch.data.sources.image_files import EXTENSIONS
from glorasearch.errors import DataError
from tests.unit.data.conftest import random_image


def config(folder: Path, **values: Any) -> DataConfig:
    return DataConfig(source=f"folder:{folder}", **values)


@pytest.fixture
def folder(write_folder: Any) -> Path:
    path: Path = write_folder("set", {"a": 10, "b": 10})
    return path


def count(folder: Path) -> int:
    found = check_source(config(folder))
    return found.train + found.search + found.test


def test_pillow_reads_every_suffix() -> None:
    Image.init()
    formats = Image.registered_extensions()
    assert [suffix for suffix in EXTENSIONS if formats.get(suffix) not in Image.OPEN] == []


def test_jfif_and_capitals_are_images(folder: Path) -> None:
    random_image(91).save(folder / "a" / "x.jfif", "JPEG")
    random_image(92).save(folder / "b" / "x.JPG")
    assert count(folder) == 22


def test_links_into_themselves_are_read_once(folder: Path) -> None:
    (folder / "a" / "self").symlink_to(".")
    (folder / "a" / "again").symlink_to("loop")
    (folder / "a" / "loop").symlink_to("again")
    assert count(folder) == 20
    assert read_source(config(folder)).ignored == {
        "files without a suffix": 2,
        "links to a folder that is read already": 1,
    }


def test_each_real_file_is_one_image(folder: Path, tmp_path: Path) -> None:
    (folder / "a" / "link.png").symlink_to("3.png")
    os.link(folder / "b" / "4.png", folder / "b" / "twice.png")
    elsewhere = tmp_path / "store"
    elsewhere.mkdir()
    random_image(99).save(elsewhere / "deep.png")
    (folder / "b" / "store").symlink_to(elsewhere)
    (folder / "b" / "deep.png").symlink_to(elsewhere / "deep.png")
    assert count(folder) == 21
    assert read_source(config(folder)).ignored == {"further names of a file": 3}


def test_links_in_timms_folders(folder: Path) -> None:
    plain = DataConfig(source="torch/image_folder", root=str(folder))
    (folder / "a" / "self").symlink_to(".")
    os.link(folder / "b" / "4.png", folder / "b" / "twice.png")
    assert len(read_source(plain).train) == 20
    with pytest.raises(DataError, match=r"a/0\.png and .*a/self/0\.png: one file in two classes"):
        check_source(plain.replace(source="ImageFolder"))  # its classes are the innermost folders
    os.link(folder / "a" / "4.png", folder / "b" / "other.png")
    with pytest.raises(DataError, match=r"a/4\.png and .*b/other\.png: one file in two classes"):
        check_source(plain)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_file_in_two_classes(link: Any, folder: Path) -> None:
    link(folder / "a" / "3.png", folder / "b" / "x.png")
    with pytest.raises(DataError, match=r"a/3\.png and .*b/x\.png: one file, but classes 'a' and 'b'"):
        check_source(config(folder))


def test_a_class_that_links_to_all_classes(folder: Path) -> None:
    (folder / "a" / "up").symlink_to("..")
    with pytest.raises(DataError, match="one file, but classes 'a' and 'b'; remove one of them"):
        check_source(config(folder))


def test_pipes_and_devices_are_not_opened(folder: Path, spec: InputSpec) -> None:
    os.mkfifo(folder / "a" / "pipe.png")
    (folder / "b" / "endless.png").symlink_to("/dev/zero")
    splits = load_splits(config(folder), spec)
    assert len(splits.train) + len(splits.search) + len(splits.test) == 20
    assert splits.describe()["ignored"] == {"pipes, sockets and devices": 2}


def test_a_pipe_in_timms_folder_is_refused(folder: Path, spec: InputSpec) -> None:
    os.mkfifo(folder / "a" / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png: is not a regular file but a folder, pipe, socket or device"):
        load_search_data(DataConfig(source="ImageFolder", root=str(folder)), spec)


@pytest.mark.parametrize("source", ["ImageFolder", "torch/image_folder"])
def test_a_link_to_a_file_of_the_kernel_in_timms_folder(source: str, folder: Path, spec: InputSpec) -> None:
    """Reading some of them, such as /proc/kmsg, never ends."""
    (folder / "a" / "log.png").symlink_to("/proc/self/status")
    with pytest.raises(DataError, match=r"a/log\.png: leads to a file that the kernel makes up"):
        load_search_data(DataConfig(source=source, root=str(folder)), spec)


@pytest.mark.parametrize("target", ["/proc", "/proc/self", "/sys"])
def test_folders_of_the_kernel_are_refused(target: str, folder: Path) -> None:
    (folder / "c").symlink_to(target)
    with pytest.raises(DataError, match=r"set/c: is /(proc|sys).*made up by the kernel"):
        check_source(config(folder))
    with pytest.raises(DataError, match="made up by the kernel"):
        check_source(config(Path("/")))
    with pytest.raises(DataError, match=r"data\.root is /.*made up by the kernel"):
        check_source(DataConfig(source="ImageFolder", root=target))


def test_a_folder_that_cannot_be_listed_is_no_empty_one(folder: Path) -> None:
    (folder / "a" / "more").mkdir(mode=0)
    if os.access(folder / "a" / "more", os.R_OK):
        pytest.skip("this user reads everything")
    with pytest.raises(DataError, match=r"a/more: cannot be listed: Permission denied"):
        check_source(config(folder))


def test_a_link_to_nothing(folder: Path) -> None:
    (folder / "a" / "gone.png").symlink_to("/nowhere/gone.png")
    with pytest.raises(DataError, match=r"gone\.png: does not exist: the link leads to /nowhere/gone\.png"):
        check_source(config(folder))


def test_what_is_not_used_is_counted_and_said(folder: Path, spec: InputSpec, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a/notes.txt", "a/labels.txt", "b/movie.mp4", "b/LICENSE", "a/.DS_Store", "README.md"):
        (folder / name).write_text("x")
    (folder / "__MACOSX" / "a").mkdir(parents=True)
    (folder / "__MACOSX" / "a" / "._0.png").write_bytes(b"x")
    splits = load_splits(config(folder), spec)
    assert splits.class_names == ("a", "b")
    assert splits.describe()["ignored"] == {
        "files beside the folders of the classes": 1,
        "files that end in .mp4": 1,
        "files that end in .txt": 2,
        "files without a suffix": 1,
        "hidden and system folders": 1,
        "hidden files": 1,
    }
    assert "not used: 1 files beside the folders of the classes, 1 files that end in .mp4" in caplog.text
    caplog.clear()
    load_splits(config(folder), spec, said=True)
    assert caplog.text == ""


@pytest.mark.parametrize("suffix", ["bmp", "gif", "tiff", "webp", "jpg", "png", "tga", "pcx", "jp2"])
@pytest.mark.parametrize("gib", [0.0, 4.0])
def test_a_cut_test_image_is_found_before_training(suffix: str, gib: float, write_folder: Any, spec: InputSpec) -> None:
    root = write_folder("set/train", {"a": 4, "b": 4}).parent
    write_folder("set/test", {"a": 2, "b": 2}, first_seed=50)
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        buffer, "JPEG2000" if suffix == "jp2" else {"jpg": "JPEG", "tiff": "TIFF"}.get(suffix, suffix.upper())
    )
    whole = buffer.getvalue()
    path = root / "test" / "a" / f"last.{suffix}"
    path.write_bytes(whole)
    load_search_data(config(root, max_memory_gib=gib), spec)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"last\.{suffix}: cannot be read as an image"):
        load_search_data(config(root, max_memory_gib=gib), spec)


def packed(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("gib", [0.0, 4.0])
@pytest.mark.parametrize("content", [b"nothing that zlib wrote", zlib.compress(b"\x09" * 97 * 32)])
def test_a_png_whose_checksums_are_right(content: bytes, gib: float, write_folder: Any, spec: InputSpec) -> None:
    """What its encoder wrote is nonsense: it shows by decoding only."""
    root = write_folder("set/train", {"a": 4, "b": 4}).parent
    write_folder("set/test", {"a": 2, "b": 2}, first_seed=50)
    header = packed(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + packed(b"IDAT", content) + packed(b"IEND", b"")
    (root / "test" / "a" / "last.png").write_bytes(png)
    with pytest.raises(DataError, match=r"last\.png: cannot be read as an image: .* data stream"):
        load_search_data(config(root, max_memory_gib=gib), spec)


def test_a_file_that_is_no_image(folder: Path, spec: InputSpec) -> None:
    (folder / "a" / "x.png").write_text("hello")
    with pytest.raises(DataError, match=r"x\.png: cannot be read as an image: no format of images begins like it; rep"):
        load_search_data(config(folder), spec)


def test_a_cut_photograph_with_a_thumbnail(write_folder: Any, spec: InputSpec) -> None:
    """The thumbnail's end marker is not the photograph's."""
    root = write_folder("set/train", {"a": 4, "b": 4}).parent
    write_folder("set/test", {"a": 2, "b": 2}, first_seed=50)
    large, small = io.BytesIO(), io.BytesIO()
    random_image(3, (200, 200)).save(large, "JPEG")
    random_image(4, (16, 16)).save(small, "JPEG")
    segment = b"\xff\xe2" + (len(small.getvalue()) + 2).to_bytes(2, "big") + small.getvalue()
    photograph = large.getvalue()[:2] + segment + large.getvalue()[2:]
    (root / "test" / "a" / "photo.jpg").write_bytes(photograph[: len(photograph) // 2])
    with pytest.raises(DataError, match=r"photo\.jpg: cannot be read as an image: .*truncated"):
        load_search_data(config(root), spec)
