"""What an export says of image files of every kind: the command, the function, and the program on its card."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.clean import CARD_PROGRAM, without_glorasearch
from support.exports import searched
from support.runs import Bench

import glorasearch
from glorasearch.data import DataConfig, InputSpec, Splits, load_splits
from glorasearch.errors import DataError, ExportError, InputError
from glorasearch.export import export_subnet

Call = Callable[..., tuple[int, str, str]]
MODELS = {1: "vit", 3: "vit_bias_gained"}
"""Channels → a toy model that takes them."""
TEMPERATURES = {1: 1.0, 3: 1.75}
"""Channels → the temperature that its export carries; 1 is none."""


def write_images(folder: Path, seed: int) -> None:
    """10 images of all kinds: colours, grey, palettes, alpha, one bit, 16 bits, EXIF, ink."""
    random = np.random.default_rng(seed)

    def noise(*shape: int, most: int = 256, kind: Any = np.uint8) -> Any:
        return random.integers(0, most, shape).astype(kind)

    folder.mkdir(parents=True)
    colours = Image.fromarray(noise(20, 30, 3))
    colours.save(folder / "colours.png")
    Image.fromarray(noise(20, 30)).save(folder / "grey.png")
    colours.transpose(Image.Transpose.ROTATE_90).quantize(16).save(folder / "palette.png", transparency=3)
    Image.fromarray(noise(20, 30, 4)).save(folder / "alpha.png")
    Image.fromarray(noise(20, 30)).convert("1").save(folder / "bits.png")
    Image.fromarray(noise(20, 30, most=65536, kind=np.uint16)).save(folder / "sixteen.png")
    Image.fromarray(noise(20, 30, most=65536, kind=np.uint16)).save(folder / "sixteen.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(20, 30, 3)).save(folder / "turned.jpg", exif=exif)
    Image.frombytes("CMYK", (30, 20), noise(20, 30, 4).tobytes()).save(folder / "ink.jpg")
    Image.fromarray(noise(20, 30)).save(folder / "one.gif")


def make_export(path: Path, source: Path, channels: int, **options: Any) -> Splits:
    """Export a toy model for images; returns them as they are read for training."""
    supernet, subnet, _ = searched(MODELS[channels])
    spec = InputSpec(channels, 16, 16, (0.5, 0.4, 0.3)[:channels], (0.2, 0.3, 0.4)[:channels], "bilinear", 0.8)
    config = DataConfig(source=f"folder:{source}", train=50, search=20, test=30, **options)
    data = load_splits(config, spec)
    given = TEMPERATURES[channels]
    export_subnet(supernet, subnet, path, data, metrics={} if given == 1 else {"temperature": given})
    return data


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(10):
        write_images(folder / f"class {number}", number)
    return folder


@pytest.fixture(scope="module")
def exported(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, Splits]]:
    folder = tmp_path_factory.mktemp("exports")
    return {
        channels: (folder / name, make_export(folder / name, images, channels)) for channels, name in MODELS.items()
    }


def in_order(rows: Any) -> Any:
    """Rows of probabilities sorted by the first class."""
    return np.asarray(sorted(map(tuple, rows)))


@pytest.mark.parametrize("channels", MODELS)
def test_files_are_read_as_in_the_training(exported: Any, images: Path, channels: int) -> None:
    path, data = exported[channels]
    model = glorasearch.load_export(path)
    with torch.no_grad():
        inputs = torch.cat([split.batch(slice(None))[0] for split in (data.train, data.search, data.test)])
        logits = model(inputs).double()
    expected = in_order((logits / TEMPERATURES[channels]).softmax(-1).tolist())
    found = glorasearch.predict_images(path, images, top=99)
    assert [one.file for one in found[:2]] == [str(images / "class 0" / name) for name in ("alpha.png", "bits.png")]
    assert all(list(one.probabilities) == sorted(one.probabilities, reverse=True) for one in found)
    rows = in_order([one.probabilities[one.labels.index(name)] for name in data.class_names] for one in found)
    assert rows.shape == (100, 10)
    assert np.abs(rows - expected).max() < 1e-6
    assert len({tuple(row) for row in rows}) == 100
    plain = glorasearch.predict_images(path, images, top=99, temperature=1)
    rows = in_order([one.probabilities[one.labels.index(name)] for name in data.class_names] for one in plain)
    assert np.abs(rows - in_order(logits.softmax(-1).tolist())).max() < 1e-6
    assert (plain == found) == (channels == 1)
    with pytest.raises(InputError, match="temperature is 0; expected a number above 0"):
        glorasearch.predict_images(path, images, temperature=0)


def test_the_program_on_the_card_says_the_same(exported: Any, images: Path, tmp_path: Path) -> None:
    """In a process that has no glorasearch, for each kind of file and each way to read it."""
    ranges = {3: {"pixel_range": (1000, 50000)}, 1: {"pixel_range": (0.5, 60000.5), "exif": False}}
    for channels, options in ranges.items():
        make_export(tmp_path / f"{channels}", images, channels, **options)
    files = sorted(map(str, (images / "class 3").iterdir()))
    values = np.random.default_rng(0).random((20, 30), dtype=np.float32) * 70000
    Image.fromarray(values).save(tmp_path / "float.tif")
    jobs = [(str(path), files) for path, _ in exported.values()]
    jobs += [(str(tmp_path / f"{channels}"), [*files, str(tmp_path / "float.tif")]) for channels in ranges]
    said = [line.rsplit(" ", 1) for line in without_glorasearch(CARD_PROGRAM, json.dumps(jobs)).splitlines()]
    found = [one for path, own in jobs for one in glorasearch.predict_images(path, own)]
    assert [label for label, _ in said] == [one.labels[0] for one in found]
    assert [float(share) for _, share in said] == pytest.approx([one.probabilities[0] for one in found], abs=1e-5)
    ranged, turned = 2 * 3, 1  # the other files are the same to both exports that take so many channels
    assert len({share for _, share in said}) == 2 * len(files) + ranged + turned


def test_the_command(exported: Any, images: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(exported[3][0])
    folder, file = images / "class 1", images / "class 2" / "grey.png"
    expected = glorasearch.predict_images(path, [folder, file], top=2)

    code, out, err = call("predict", path, str(folder), str(file), "--top", "2", "--json", "--quiet")
    assert code == 0
    assert "probabilities are of outputs divided by the temperature 1.75\n" in err
    assert json.loads(out) == {"export": path, "temperature": 1.75, "predictions": [one.to_json() for one in expected]}
    last = json.loads(out)["predictions"][-1]
    assert (last["file"], last["label"], last["conversion"]) == (str(file), last["top"][0]["label"], "L to RGB")
    assert [len(last["top"]), last["error"]] == [2, None]
    for said in (
        "L to RGB (2)",
        "P to RGB (2)",
        "turned upright (1)",
        "16 bits to 8 bits, 0 black and 65535 white, L to",
    ):
        assert said in err

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{folder}\r\n\n{file}\n".encode())))
    code, out, _ = call("predict", path, "-", "--csv", "--top", "2", "--quiet")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["file", "label", "probability", "label_2", "probability_2", "error"]
    found = [(row["file"], (row["label"], row["label_2"]), float(row["probability_2"])) for row in rows]
    assert found == [(one.file, one.labels, one.probabilities[1]) for one in expected]

    code, out, err = call("predict", path, str(file), "--json", "--temperature", "1", "--quiet")
    (plain,) = glorasearch.predict_images(path, [file], temperature=1)
    assert json.loads(out) == {"export": path, "temperature": 1.0, "predictions": [plain.to_json()]}
    assert "temperature" not in err

    code, out, _ = call("predict", path, str(file))
    assert (code, "grey.png" in out, f"{100 * expected[-1].probabilities[0]:.1f} %" in out) == (0, True, True)


def test_what_cannot_be_read_is_said_and_the_rest_is_predicted(
    exported: Any, images: Path, call: Call, tmp_path: Path
) -> None:
    path, good = str(exported[1][0]), images / "class 0" / "grey.png"
    (tmp_path / "broken.png").write_bytes(good.read_bytes()[:60])
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.ones((4, 4), dtype=np.int32)).save(tmp_path / "wide.tif")
    (tmp_path / "notes.txt").write_text("mine")
    code, out, err = call("predict", path, str(tmp_path), str(good), "--json", "--quiet")
    broken, floating, wide, fine = json.loads(out)["predictions"]
    assert (code, fine["error"], broken["label"], broken["top"]) == (1, None, None, [])
    assert "cannot be read as an image" in broken["error"]
    assert "its pixels are floating point, whose scale no file says" in floating["error"]
    assert "its pixels are 32 bits, whose scale no file says" in wide["error"]
    assert f"error: {tmp_path / 'broken.png'}: cannot be read as an image" in err
    assert "not used: 1 files that end in .txt" in err
    code, out, _ = call("predict", path, str(tmp_path), "--csv", "--quiet")
    assert (code, [bool(row["error"]) for row in csv.DictReader(io.StringIO(out))]) == (1, [True, True, True])
    for name in ("float.tif", "wide.tif"):  # the program on the card refuses what the command refuses
        with pytest.raises(AssertionError, match="had no images of 32 bits or floating point"):
            without_glorasearch(CARD_PROGRAM, json.dumps([[path, [str(tmp_path / name)]]]))


def test_what_is_refused(exported: Any, call: Call, tmp_path: Path, copied: Bench) -> None:
    path, place = str(exported[1][0]), ["--workspace", str(copied.workspace)]
    (tmp_path / "empty").mkdir()

    def refused(*arguments: str, code: int = 2) -> str:
        found, out, err = call("predict", *arguments)
        assert (found, out) == (code, "")
        return err

    assert "images to predict: 2 problems" in refused(path, "gone.png", str(tmp_path / "empty"))
    assert "no file in it ends as images do" in refused(path, str(tmp_path / "empty"))
    assert "gone.png: does not exist" in refused(path, "gone.png")
    assert "give one of them" in refused(path, "x.png", "--csv", "--json")
    assert "no run 'tinny'" in refused("tinny", "x.png", *place)
    assert "is a folder without an exported model" in refused(str(tmp_path), "x.png", *place)
    with pytest.raises(ExportError, match="not a model that glorasearch has exported"):
        glorasearch.predict_images(tmp_path, [copied.run_file])
    with pytest.raises(DataError, match="none are given"):
        glorasearch.predict_images(path, [])


def test_a_damaged_export_is_refused(copied: Bench, images: Path, call: Call) -> None:
    """Moved with its workspace, and damaged there; what its first place has is no matter."""
    call(*copied.arguments("run", "--quiet"))
    weights = copied.folder / "export" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"ABCD")
    code, out, err = call("predict", "tiny", str(images), "--workspace", str(copied.workspace))
    assert (code, out) == (1, "")
    assert "model.safetensors: altered" in err
    assert "`glorasearch run RUN_FILE` makes it again" in err


def test_a_run_is_named_by_its_name(undisturbed: Bench, images: Path, call: Call) -> None:
    files = [str(images / "class 0" / name) for name in ("grey.png", "colours.png")]
    code, out, _ = call("predict", "tiny", *files, "--workspace", str(undisturbed.workspace), "--json", "--quiet")
    found = json.loads(out)
    assert (code, found["export"]) == (0, str(undisturbed.folder / "export"))
    assert [one["label"] in "0123456789" for one in found["predictions"]] == [True, True]
    expected = glorasearch.predict_images(undisturbed.folder / "export", files)
    assert found["predictions"] == [one.to_json() for one in expected]
