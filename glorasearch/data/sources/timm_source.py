"""Data sets that timm's `create_dataset` knows: `torch/...`, `hfds/...`, a folder or tar file, streams."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glorasearch.bounded import user_path
from glorasearch.data.config import DataConfig
from glorasearch.data.names import of_kernel, one_form, shown
from glorasearch.data.records import ArrayRecords, BytesRecords, DatasetRecords, FileRecords, ReaderRecords, Records
from glorasearch.data.sources.folder import split_folders
from glorasearch.data.sources.image_files import each_file_once
from glorasearch.data.sources.source_splits import SourceSplits
from glorasearch.errors import DataError

TRAIN_AND_TEST = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")
"""torchvision data sets with these two splits; timm gives the test split for any other name."""
TEST_IS_VALIDATION = ("imagenet", "places365", "inaturalist", "inat")
"""torchvision data sets whose published test split has no labels, so that results are those of the validation split."""
STREAMS = ("hfids", "tfds", "wds")
"""Data sets that can only be read sequentially; their search split is used if `search_split` names it."""
UNKNOWN_SPLIT = "unknown split"
"""Beginning of the error that `hfds/` raises for a split that a data set lacks."""
GIB = 2**30


def read_timm(config: DataConfig) -> SourceSplits:
    """The splits of the data set; `train_split`, `search_split` and `test_split` name them if they have other names.

    A search or test split that a data set lacks, or for which a folder has no subfolder, is carved out of the training
    split. Only `hfds/` and `tfds/` download anything.

    Raises:
        DataError: if timm cannot make the data set, its splits have different classes, or it has no labels.
    """
    subject = config.source
    name = subject.lower().rpartition("/")[2] if _prefix(subject) == "torch" else ""
    folder_like = name in ("image_folder", "folder") or _prefix(subject) not in ("torch", "hfds", *STREAMS)
    ignored: Counter[str] = Counter()
    if folder_like:
        wanted, roots = _folder_splits(config, ignored)
    else:
        wanted, roots = _named_splits(config, name), {}
    datasets: dict[str, Any] = {}
    for role, split in wanted.items():
        optional = role != "train" and getattr(config, f"{role}_split") is None
        dataset = _create(config, split, roots.get(role, config.root), optional and _prefix(subject) == "hfds")
        if dataset is not None:
            datasets[role] = dataset
    names = {role: _class_names(dataset, subject) for role, dataset in datasets.items()}
    for role, own in names.items():
        if own != names["train"]:
            raise DataError(
                f"{subject}: the {role} split has other classes than the training split: "
                f"{_difference(own, names['train'])}; both must have the same class folders or names"
            )
    records = {
        role: _records(dataset, config, f"{subject}, {wanted[role]}", ignored) for role, dataset in datasets.items()
    }
    return SourceSplits(
        subject,
        records["train"],
        names["train"] or tuple(str(label) for label in range(int(records["train"].labels.max(initial=-1)) + 1)),
        search=records.get("search"),
        test=records.get("test"),
        origins={role: f"split {wanted[role]!r}" for role in records},
        ignored=dict(sorted(ignored.items())),
    )


def _prefix(name: str) -> str:
    return name.partition("/")[0].lower() if "/" in name else ""


def _named_splits(config: DataConfig, name: str) -> dict[str, str]:
    """Split → timm's name of it, for data sets with named splits."""
    wanted = {"train": "train", "search": "validation", "test": "test"}
    if name in TRAIN_AND_TEST or _prefix(config.source) in STREAMS:
        del wanted["search"]
    elif name in TEST_IS_VALIDATION:
        wanted = {"train": "train", "test": "validation"}
    given = {"train": config.train_split, "search": config.search_split, "test": config.test_split}
    chosen = {role: split for role, split in given.items() if split is not None}
    wanted = {role: split for role, split in wanted.items() if split not in chosen.values()} | chosen
    if "train" not in wanted or len(set(wanted.values())) < len(wanted):
        raise DataError(f"{config.source}: each split needs a name of its own; given are {wanted}")
    if name in TRAIN_AND_TEST and not set(wanted.values()) <= {"train", "test"}:
        raise DataError(f"{config.source}: has only the splits train and test; given are {', '.join(wanted.values())}")
    return wanted


def _folder_splits(config: DataConfig, ignored: Counter[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The same and the folder of each split, for data sets that are folders; timm would fall back to all images."""
    if config.root is None:
        raise DataError(f"{config.source}: data.root is missing: the folder of the data set")
    root = user_path(config.root)
    if not root.exists():
        raise DataError(f"{config.source}: data.root is {root}, which does not exist")
    if of_kernel(str(root.resolve())):
        raise DataError(f"{config.source}: data.root is {root}, made up by the kernel; a folder of files is needed")
    given = {"train": config.train_split, "search": config.search_split, "test": config.test_split}
    folders = split_folders(root, config.source, ignored) if root.is_dir() else {}
    for role, split in given.items():
        if split is not None:
            if not (root / split).is_dir():
                raise DataError(f"{config.source}: data.{role}_split is {split!r}, but {root / split} is not a folder")
            folders[role] = root / split
    if folders and "train" not in folders:
        raise DataError(f"{config.source}: {root} has no folder train/; name it with data.train_split")
    if not folders:
        return {"train": "all images"}, {"train": str(root)}
    return {role: folder.name for role, folder in folders.items()}, {role: str(path) for role, path in folders.items()}


def _create(config: DataConfig, split: str, root: str | None, optional: bool) -> Any:
    """timm's data set of one split, or None if it lacks a split that is optional."""
    from timm.data.dataset_factory import create_dataset  # imports torchvision, which only this source needs

    try:
        return create_dataset(config.source, root=root, split=split, search_split=False, is_training=False)
    except Exception as error:  # timm, torchvision and hub clients each raise their own
        if optional and str(error).lower().startswith(UNKNOWN_SPLIT):
            return None
        reason = f"{type(error).__name__}: {error}" if str(error) else f"timm refuses it with {type(error).__name__}"
        raise DataError(
            f"{config.source}: split {split!r} of data.root {root!r} cannot be made by timm's create_dataset: "
            f"{reason}. "
            "Allowed are digits, vtab:<root>/<task>, folder:<path>, npz:<file>.npz#<task>, and timm names, such as "
            "torch/cifar100 or torch/image_folder; nothing is downloaded for torch/"
        ) from error


def _class_names(dataset: Any, subject: str) -> tuple[str, ...]:
    """Names in one Unicode form, in the order of their indices; empty if the data set has none."""
    own = getattr(dataset, "classes", None) or ()
    reader = getattr(dataset, "reader", None)
    mapping = getattr(reader, "class_to_idx", None) or getattr(reader, "class_name_to_idx", None) or {}
    names = [str(name) for name in own or sorted(mapping, key=lambda name: int(mapping[name]))]
    forms: dict[str, str] = {}
    for name in names:
        if forms.setdefault(one_form(name), name) != name:
            raise DataError(
                f"{subject}: two classes are called {shown(one_form(name))!r}, spelled in two Unicode forms; merge them"
            )
    return tuple(map(one_form, names))


def _difference(found: Sequence[str], expected: Sequence[str]) -> str:
    missing, more = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    parts = [f"it lacks {', '.join(missing[:5])}"] if missing else []
    parts += [f"it has {', '.join(more[:5])} too"] if more else []
    return "; ".join(parts) or "their order differs"


def _files(samples: Sequence[tuple[str, Any]], subject: str, ignored: Counter[str]) -> FileRecords:
    labels = _integers([label for _, label in samples], subject)
    paths = [str(path) for path, _ in samples]
    kept = each_file_once(paths, labels, subject, ignored)
    return FileRecords([Path(paths[place]) for place in kept], [labels[place] for place in kept])


def _records(dataset: Any, config: DataConfig, subject: str, ignored: Counter[str]) -> Records:
    """The data set's images, if possible without decoding them."""
    data = getattr(dataset, "data", None)
    if data is not None and hasattr(dataset, "targets"):
        return ArrayRecords(np.asarray(data, dtype=np.uint8), _integers(dataset.targets, subject), subject)
    samples = getattr(dataset, "samples", None) or getattr(dataset, "imgs", None)
    if samples:
        return _files(samples, subject, ignored)
    reader = getattr(dataset, "reader", None)
    own: Sequence[Any] = getattr(reader, "samples", ())
    if len(own) and isinstance(own[0][0], str):
        return _files(own, subject, ignored)
    if _prefix(config.source) in STREAMS:
        return _spool(dataset, config.max_memory_gib * GIB, subject)
    if reader is not None:
        labels = reader.iter_targets() if hasattr(reader, "iter_targets") else reader.targets
        return ReaderRecords(reader, _integers(labels, subject), subject)
    return DatasetRecords(dataset, _integers([dataset[index][1] for index in range(len(dataset))], subject), subject)


def _integers(labels: Iterable[Any], subject: str) -> list[int]:
    """Labels as class indices."""
    result: list[int] = []
    for index, label in enumerate(labels):
        first = np.asarray(label).reshape(-1)[:1]  # QMNIST has seven columns beside the label
        if first.size == 0 or first.dtype.kind not in "iu":
            raise DataError(f"{subject}, image {index}: its label is {label!r}; a class index is needed")
        result.append(int(first[0]))
    return result


def _spool(stream: Iterable[tuple[Image.Image, Any]], limit: float, subject: str) -> BytesRecords:
    """Read a stream once and keep its images, losslessly encoded, for random access."""
    contents: list[bytes] = []
    labels: list[Any] = []
    size = 0
    for image, label in stream:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        contents.append(buffer.getvalue())
        labels.append(label)
        size += len(contents[-1])
        if size > limit:
            raise DataError(
                f"{subject}: a stream is kept in memory, and after {len(contents)} images it takes more than "
                f"data.max_memory_gib = {limit / GIB:g}; raise that, or use the hfds/ form or a folder"
            )
    return BytesRecords(contents, _integers(labels, subject), subject)
