from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from glorasearch.data import DataConfig, InputSpec, load_search_data, load_search_split, load_splits
from glorasearch.data.reading import Reading
from glorasearch.errors import ConfigError, DataError

Pixels = npt.NDArray[Any]
GRAY = InputSpec(1, 8, 8, (0.0,), (1.0,))
HELD: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda scene: scene,
    2: lambda scene: scene[:, ::-1],
    3: lambda scene: scene[::-1, ::-1],
    4: lambda scene: scene[::-1],
    5: lambda scene: scene.T,
    6: lambda scene: np.rot90(scene),
    7: lambda scene: scene[::-1, ::-1].T,
    8: lambda scene: np.rot90(scene, -1),
}
"""EXIF's orientation → how a camera that is held like that stores the scene."""


def folder(path: Path, largest: float, kind: Any, suffix: str) -> DataConfig:
    """20 images with values from 0 to `largest`, in two classes."""
    random = np.random.default_rng(0)
    for number in range(20):
        values = random.random((8, 8)) * largest
        values[0, 0], values[0, 1] = 0, largest
        (path / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.astype(kind)).save(path / "ab"[number % 2] / f"{number}.{suffix}")
    return DataConfig(source=f"folder:{path}")


def largest_seen(config: DataConfig) -> float:
    split = load_splits(config, GRAY).train
    return float(split.batch(slice(None))[0].max() * 255)


def opened(values: Pixels, suffix: str) -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, {"tif": "TIFF", "png": "PNG", "pgm": "PPM", "pfm": "PPM"}[suffix])
    return Image.open(buffer)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("largest", "bits"), [(3999, 12), (900, 10), (16383, 14)])
def test_fewer_bits_in_sixteen(suffix: str, largest: int, bits: int, tmp_path: Path) -> None:
    config = folder(tmp_path, largest, np.uint16, suffix)
    with pytest.raises(
        DataError, match=rf"20 images, such as .* pixels of 16 bits, but with values from 0 to {largest}"
    ) as e:
        load_search_data(config, GRAY)
    white = 2**bits - 1
    assert f"data.pixel_range = [0, {white}], or [0, 65535]" in str(e.value)
    assert largest_seen(config.replace(pixel_range=[0, white])) == pytest.approx(largest * 256 // (white + 1))
    assert largest_seen(config.replace(pixel_range=[0, 65535])) == pytest.approx(largest >> 8)


@pytest.mark.parametrize(
    ("kind", "largest", "suggested"),
    [
        (np.int32, 299, "[0, 511]"),
        (np.int32, 100, "[0, 127]"),
        (np.float32, 0.5, "[0, 1]"),
        (np.float32, 9.5, "[0, 15]"),
        (np.float32, 1.5, "[0, 3]"),
    ],
)
def test_a_scale_that_no_file_says(kind: Any, largest: float, suggested: str, tmp_path: Path) -> None:
    config = folder(tmp_path, largest, kind, "tif")
    with pytest.raises(
        DataError, match=r"pixels of (32 bits|floating point) with values from 0 to .*no file says"
    ) as e:
        load_search_data(config, GRAY)
    assert suggested in str(e.value)
    with pytest.raises(DataError, match=r"set data\.pixel_range"):
        load_search_split(config, GRAY)
    white = 2 * largest
    assert largest_seen(config.replace(pixel_range=[0, white])) == pytest.approx(127.5, abs=1)


def test_sixteen_bits_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, spec: InputSpec) -> None:
    splits = load_splits(folder(tmp_path, 65535, np.uint16, "png"), spec)
    assert splits.describe()["scale"] == "20 images have pixels of 16 bits: 0 is black and 65535 white in all of them"
    assert splits.describe()["scale"] in caplog.text


def test_sixteen_bits_keep_their_upper_eight() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 7)).astype(np.uint16)
    for suffix in ("png", "tif"):
        assert (np.asarray(Reading().convert(opened(values, suffix), 1)) == values >> 8).all()
        full = Reading(pixel_range=(0, 65535))
        assert (np.asarray(full.convert(opened(values, suffix), 1)) == values >> 8).all()
        assert full.mark(opened(values, suffix)) == ""
    assert Reading(pixel_range=(0, 4095)).mark(opened(values, "png")) == "pixel range (0, 4095)"


@pytest.mark.parametrize("low", [-1000.0, -0.25])
def test_black_may_be_below_zero(low: float) -> None:
    values = np.array([[low * 2, low, 0.0, -low, -low * 4]])
    shares = (values.clip(low, -low) - low) / (-2 * low)
    reading = Reading(pixel_range=(low, -low))
    found = np.asarray(reading.convert(opened(values.astype(np.float32), "tif"), 3))[..., 0]
    assert np.abs(found - 255 * shares).max() <= 0.5
    if low < -1:
        found = np.asarray(reading.convert(opened(values.astype(np.int32), "tif"), 1))
        assert np.abs(found / 255 - shares).max() < 1 / 256


def test_a_netpbm_file_says_its_white() -> None:
    image = Image.open(io.BytesIO(b"P5 2 1 4095\n" + np.array([4095, 2048], ">u2").tobytes()))
    assert np.asarray(Reading().convert(image, 1)).tolist() == [[255, 128]]


def test_pixels_that_are_no_numbers(tmp_path: Path) -> None:
    config = folder(tmp_path, 1.0, np.float32, "tif").replace(pixel_range=[0, 1])
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "a" / "nan.tif")
    with pytest.raises(DataError, match=r"nan\.tif: .*pixels that are not finite numbers"):
        load_search_data(config, GRAY)


def colours(path: Path, largest: int) -> DataConfig:
    """16 bits a colour, which Pillow cannot write: a PNG by hand."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    for number in range(10):
        values = np.random.default_rng(number).integers(0, largest + 1, (8, 24)).astype(">u2")
        values[0, 0] = largest
        rows = b"".join(b"\0" + row.tobytes() for row in values)
        head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
        content = (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        )
        (path / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (path / "ab"[number % 2] / f"{number}.png").write_bytes(content)
    return DataConfig(source=f"folder:{path}")


def test_colours_of_sixteen_bits(tmp_path: Path) -> None:
    full = load_splits(colours(tmp_path / "full", 65535), GRAY)
    assert "10 images have pixels of 16 bits a colour" in full.scale
    dark = colours(tmp_path / "dark", 4095)
    with pytest.raises(DataError, match=r"Pillow reads the upper 8 \(up to 15 of 255 here\).*save them with 8 bits"):
        load_search_data(dark, GRAY)
    with pytest.raises(DataError, match="no other scale than the full one can be applied"):
        load_search_data(dark.replace(pixel_range=[0, 4095]), GRAY)
    assert load_search_data(dark.replace(pixel_range=[0, 65535]), GRAY).classes == 2


@pytest.mark.parametrize("values", [[1, 1], [4095, 0], [0, 1, 2], [0]])
def test_a_range_that_is_none(values: list[float]) -> None:
    with pytest.raises(ConfigError, match="pixel_range"):
        DataConfig(source="digits", pixel_range=values)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", HELD)
def test_images_are_turned_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    scene = np.zeros((24, 16), np.uint8)
    scene[:8, :8], scene[16:, 8:] = 250, 120
    exif = Image.Exif()
    exif[0x0112] = orientation
    held = Image.fromarray(np.ascontiguousarray(HELD[orientation](scene)))
    held.save(tmp_path / f"x.{suffix}", exif=exif, quality=95)
    data = (tmp_path / f"x.{suffix}").read_bytes()
    mark = Reading().mark(Image.open(io.BytesIO(data)), data)
    found = np.asarray(Reading().convert(Image.open(io.BytesIO(data)), 1)).astype(int)
    assert mark == ("" if suffix == "tiff" or orientation == 1 else f"orientation {orientation}")
    assert found.shape == scene.shape
    assert np.abs(found - scene).max() < 40
    stored = Reading(exif=False)
    assert stored.mark(Image.open(io.BytesIO(data))) == ""
    if suffix != "tiff":  # Pillow turns these itself
        assert stored.convert(Image.open(io.BytesIO(data)), 1).size == held.size


def test_turned_images_have_another_digest(tmp_path: Path, spec: InputSpec) -> None:
    exif = Image.Exif()
    for number in range(10):
        exif[0x0112] = 6 if number < 5 else 1
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "ab"[number % 2] / f"{number}.png", exif=exif)
    config = DataConfig(source=f"folder:{tmp_path}")
    turned, stored = load_splits(config, spec), load_splits(config.replace(exif=False), spec)
    assert turned.describe()["reading"] == {"exif": True, "pixel_range": None, "turned": 5}
    assert turned.train.digest != stored.train.digest
    assert not torch.equal(turned.train.batch(slice(None))[0], stored.train.batch(slice(None))[0])
    lazy = load_splits(config.replace(max_memory_gib=0), spec)
    assert torch.equal(turned.train.batch(slice(None))[0], lazy.train.batch(slice(None))[0])


def test_broken_exif_is_none(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    image.save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff nonsense")
    with Image.open(tmp_path / "x.jpg") as found:
        assert Reading().mark(found) == ""
        assert Reading().convert(found, 1).size == (8, 8)


def test_a_range_beyond_all_whole_numbers(tmp_path: Path) -> None:
    config = folder(tmp_path, 65535, np.uint16, "png")
    assert largest_seen(config.replace(pixel_range=[-1e300, 1e300])) == pytest.approx(128)
    assert largest_seen(config.replace(pixel_range=[0, 1e300])) == 0
