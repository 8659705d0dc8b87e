from __future__ import annotations

import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from timm.data import IterableImageDataset

from glorasearch.data import DataConfig, InputSpec, check_source, load_search_data, load_splits
from glorasearch.data.reading import Reading
from glorasearch.data.sources.timm_source import _spool
from glorasearch.errors import DataError


@pytest.fixture
def fashion_mnist(tmp_path: Path) -> Path:
    """A small data set in the files of Fashion-MNIST."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, count in (("train", 60), ("t10k", 30)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        (raw / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + images.tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
    return tmp_path


def test_torchvision_by_name(fashion_mnist: Path, spec: InputSpec) -> None:
    splits = load_splits(DataConfig(source="torch/fashion_mnist", root=str(fashion_mnist)), spec)
    assert (len(splits.train), len(splits.search), len(splits.test)) == (48, 12, 30)
    assert splits.class_names[9] == "Ankle boot"
    assert splits.test.labels.tolist() == [label % 10 for label in range(30)]
    assert splits.describe()["test"]["origin"] == "split 'test'"
    assert splits.search.batch(slice(None))[0].shape == (12, 3, 8, 8)


def test_no_split_stands_for_two(fashion_mnist: Path) -> None:
    """timm answers any other name than train with the test split."""
    root = str(fashion_mnist)
    with pytest.raises(DataError, match="has only the splits train and test"):
        check_source(DataConfig(source="torch/fashion_mnist", root=root, search_split="validation"))
    with pytest.raises(DataError, match="each split needs a name of its own"):
        check_source(DataConfig(source="torch/fashion_mnist", root=root, search_split="test", test_split="test"))
    named = check_source(DataConfig(source="torch/fashion_mnist", root=root, search_split="test"))
    assert (named.train, named.search, named.test) == (48, 30, 12)


@pytest.mark.parametrize("source", ["torch/image_folder", "ImageFolder"])
def test_folders_in_timms_way(source: str, write_folder: Any, spec: InputSpec) -> None:
    root = write_folder("set/train", {"a": 6, "b": 4}).parent
    write_folder("set/val", {"a": 2, "b": 3}, first_seed=100)
    write_folder("set/test", {"a": 1, "b": 3}, first_seed=200)
    named = load_splits(DataConfig(source=source, root=str(root)), spec)
    own = load_splits(DataConfig(source=f"folder:{root}"), spec)
    assert named.class_names == ("a", "b")
    assert named.train.digest == own.train.digest
    assert named.search.digest == own.search.digest
    assert named.test.digest == own.test.digest


@pytest.mark.parametrize("source", ["torch/image_folder", "ImageFolder"])
def test_a_flat_folder_in_timms_way(source: str, write_folder: Any) -> None:
    summary = check_source(DataConfig(source=source, root=str(write_folder("set", {"a": 20, "b": 30}))))
    assert (summary.train, summary.search, summary.test) == (30, 10, 10)


@pytest.mark.parametrize("source", ["torch/image_folder", "ImageFolder"])
def test_classes_that_would_be_numbered_otherwise(source: str, write_folder: Any) -> None:
    root = write_folder("set/train", {"a": 6, "b": 4, "c": 5}).parent
    write_folder("set/test", {"a": 1, "c": 3}, first_seed=200)
    with pytest.raises(DataError, match="the test split has other classes than the training split: it lacks b"):
        check_source(DataConfig(source=source, root=str(root)))


def test_named_folders(write_folder: Any) -> None:
    root = write_folder("set/fit", {"a": 20, "b": 5}).parent
    write_folder("set/held", {"a": 2, "b": 3}, first_seed=100)
    config = DataConfig(source="torch/folder", root=str(root), train_split="fit", test_split="held", search=0.2)
    summary = check_source(config)
    assert (summary.train, summary.search, summary.test) == (20, 5, 5)
    with pytest.raises(DataError, match=r"data\.search_split is 'none', but .* is not a folder"):
        check_source(DataConfig(source="torch/folder", root=str(root), train_split="fit", search_split="none"))
    with pytest.raises(DataError, match="no folder train/"):
        check_source(DataConfig(source="torch/folder", root=str(root), test_split="held"))


def test_a_broken_image_is_not_replaced_by_the_next(write_folder: Any, spec: InputSpec) -> None:
    root = write_folder("set", {"a": 20, "b": 30})
    (root / "b" / "3.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"3\.png: cannot be read"):
        load_search_data(DataConfig(source="ImageFolder", root=str(root)), spec)


def test_a_tar_file(write_folder: Any, tmp_path: Path, spec: InputSpec) -> None:
    folder = write_folder("set", {"a": 20, "b": 30})
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for label in ("a", "b"):
            tar.add(folder / label, arcname=label)
    packed = load_splits(DataConfig(source="tar", root=str(tmp_path / "set.tar")), spec)
    plain = load_splits(DataConfig(source=f"folder:{folder}"), spec)
    assert packed.class_names == ("a", "b")
    assert packed.train.digest == plain.train.digest
    assert (packed.train.batch(slice(None))[0] == plain.train.batch(slice(None))[0]).all()


@pytest.mark.parametrize(
    ("source", "root", "words"),
    [
        ("torch/no_such_set", "/nowhere", "cannot be made by timm's create_dataset"),
        ("torch/cifar10", "/nowhere", "cannot be made by timm's create_dataset: .*not found"),
        ("torch/image_folder", None, r"data\.root is missing"),
        ("torch/image_folder", "/nowhere", "does not exist"),
        ("torhc/cifar10", "/nowhere", "no such source; allowed are digits"),
        ("mnist", None, "no such source"),
        ("vtub:/data/kitti", None, "unknown kind 'vtub'"),
    ],
)
def test_names_that_lead_nowhere(source: str, root: str | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_source(DataConfig(source=source, root=root))


def test_a_stream_is_kept_in_memory(spec: InputSpec) -> None:
    pairs = [(Image.new("RGB", (5, 4), (index, 0, 0)), index % 3) for index in range(6)]
    stream = IterableImageDataset(None, reader=pairs)
    records = _spool(stream, 2**20, "a stream")
    assert records.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert records.image(4).getpixel((0, 0)) == (4, 0, 0)
    assert records.examine(4, Reading()) != records.examine(5, Reading())
    with pytest.raises(DataError, match=r"a stream is kept in memory, and after 2 images.*max_memory_gib"):
        _spool(stream, 100, "a stream")


def test_hugging_face_data_sets(write_folder: Any, tmp_path: Path, spec: InputSpec) -> None:
    pytest.importorskip("datasets", reason="the Hugging Face library is not a dependency")
    root = write_folder("set/train", {"no": 20, "yes": 20}).parent
    write_folder("set/test", {"no": 5, "yes": 5}, first_seed=100)
    splits = load_splits(DataConfig(source=f"hfds/{root}", root=str(tmp_path / "cache")), spec)
    own = load_splits(DataConfig(source=f"folder:{root}"), spec)
    assert (len(splits.train), len(splits.search), len(splits.test)) == (32, 8, 10)
    assert splits.class_names == ("no", "yes")
    assert splits.overlap.images == 0
    assert sorted(splits.test._fingerprints) == sorted(own.test._fingerprints)
    with pytest.raises(DataError, match=r"[Uu]nknown split"):
        check_source(DataConfig(source=f"hfds/{root}", root=str(tmp_path / "cache"), search_split="dev"))
