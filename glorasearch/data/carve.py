"""Carving the three splits out of those that a source has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from glorasearch.data.config import DataConfig
from glorasearch.data.names import check_class_names
from glorasearch.data.problems import Problems, some
from glorasearch.data.records import Records
from glorasearch.data.sources import SourceSplits
from glorasearch.data.splitter import IntArray, stratified_split
from glorasearch.errors import DataError
from glorasearch.tasks import task_of

ROLES = ("train", "search", "test")
FRACTION = 0.2
"""Of the source's training split, for a split that the source lacks and whose size is not given."""


@dataclass(frozen=True)
class CarvedSplits:
    """Three lists of images, and where each comes from."""

    records: Mapping[str, Records]
    """`train`, `search`, `test` → its images."""
    origins: Mapping[str, str]
    class_names: tuple[str, ...]
    drawn: Mapping[str, IntArray] = field(default_factory=dict)
    """Splits that were drawn out of the source's training split → indices into it."""

    def redrawn(self, source: SourceSplits, config: DataConfig, drawn: Mapping[str, IntArray]) -> CarvedSplits:
        """The same, with other images of the list in the splits that are drawn out of it."""
        records, origins = _draw(source, config, drawn)
        ordered = {role: (dict(self.records) | records)[role] for role in self.records}
        return CarvedSplits(ordered, dict(self.origins) | origins, self.class_names, drawn)


def carve(source: SourceSplits, config: DataConfig) -> CarvedSplits:
    """Three disjoint splits of the configured sizes, seeded if they are drawn here, and stratified as the task says.

    Raises:
        DataError: if sizes do not fit, a label is out of range, or a class has no image to train on.
    """
    _check_labels(source)
    own = {"train": source.train, "search": source.search, "test": source.test}
    if source.fixed:
        asked = [f"data.{role}" for role in ROLES if getattr(config, role) is not None]
        if asked:
            raise DataError(f"{source.subject}: its lists fix the splits; leave out {', '.join(asked)}")
        given = {role: records for role, records in own.items() if records is not None}
        _check_training_targets(source, given["train"])
        return CarvedSplits(given, source.origins, source.class_names)
    generator = np.random.default_rng(config.seed)
    records: dict[str, Records] = {}
    origins: dict[str, str] = {}
    for role in ("search", "test"):
        present = own[role]
        if present is not None:
            records[role], origins[role] = _subset(present, role, source, config, generator)
    pool = source.train
    lacking = [role for role in ROLES if role not in records]
    sizes = _sizes(source, config, lacking)
    parts = stratified_split(task_of(source.task).strata(pool.labels), [sizes[role] for role in lacking], generator)
    places = dict(zip(lacking, parts, strict=True))
    own_records, own_origins = _draw(source, config, places)
    records |= own_records
    _check_training_classes(source, records["train"])
    _check_training_targets(source, records["train"])
    ordered = {role: records[role] for role in ROLES}
    return CarvedSplits(ordered, origins | own_origins, source.class_names, places)


def _draw(
    source: SourceSplits, config: DataConfig, places: Mapping[str, IntArray]
) -> tuple[dict[str, Records], dict[str, str]]:
    """Images and origins of the splits at these indices of the source's training split."""
    pool, records, origins = source.train, {}, {}
    for role, indices in places.items():
        whole = len(indices) == len(pool)
        records[role] = pool if whole else pool.take(indices)
        drawn = "" if whole else f", {len(indices)} of {len(pool)} images, {_how(source)}, seed {config.seed}"
        origins[role] = f"{source.origins.get('train', source.subject)}{drawn}"
    return records, origins


def _sizes(source: SourceSplits, config: DataConfig, lacking: list[str]) -> dict[str, int]:
    """The size of each split that is carved out of the source's training split."""
    available = len(source.train)
    train = config.train if config.train is not None else source.default_train
    search = _count(config.search, available) if config.search is not None else source.default_search
    sizes = {"search": search if search is not None else _count(FRACTION, available)}
    if config.test is not None:
        sizes["test"] = _count(config.test, available)
    elif not source.rest_is_test:
        sizes["test"] = _count(FRACTION, available)
    sizes = {role: size for role, size in sizes.items() if role in lacking}
    if train is None:
        sizes["train"] = available - sum(sizes.values())
    else:
        sizes["train"] = train
        if "test" in lacking and "test" not in sizes:
            sizes["test"] = available - sum(sizes.values())
    wrong = [role for role, size in sizes.items() if size < 1]
    if wrong or sum(sizes.values()) > available:
        asked = ", ".join(f"{role} {sizes[role]}" for role in ROLES if role in sizes)
        raise DataError(
            f"{source.subject}: {available} images cannot be split into {asked}; each split needs at least 1; "
            "set data.train, data.search and data.test to fit"
        )
    return sizes


def _count(size: float | int, available: int) -> int:
    return size if isinstance(size, int) else max(1, round(size * available))


def _subset(
    present: Records, role: str, source: SourceSplits, config: DataConfig, generator: np.random.Generator
) -> tuple[Records, str]:
    """A split that the source has, or a subset of the configured size."""
    origin = source.origins.get(role, source.subject)
    asked = getattr(config, role)
    if asked is None:
        return present, origin
    size = _count(asked, len(present))
    if size > len(present):
        raise DataError(f"{source.subject}: data.{role} is {size}, but its {role} split has {len(present)} images")
    if size == len(present):
        return present, origin
    (indices,) = stratified_split(task_of(source.task).strata(present.labels), [size], generator)
    return present.take(indices), f"{origin}, {size} of {len(present)} images, {_how(source)}, seed {config.seed}"


def _how(source: SourceSplits) -> str:
    match source.task:
        case "classify":
            return "stratified"
        case "multilabel":
            return "at random"
        case "regress":
            return "stratified by quantiles"


def _check_labels(source: SourceSplits) -> None:
    classes = len(source.class_names)
    problems = Problems(source.subject)
    check_class_names(source.class_names, problems)
    exclusive = task_of(source.task).exclusive
    if classes < 2 and exclusive:
        problems.add(f"has {classes} class; classification needs at least two")
    for role, records in zip(ROLES, (source.train, source.search, source.test), strict=True):
        if records is None:
            continue
        if not len(records):
            problems.add(f"the {role} split has no image")
        if not exclusive:
            continue
        for index in np.flatnonzero((records.labels < 0) | (records.labels >= classes)).tolist():
            label = records.labels[index]
            problems.add(f"{records.name(index)}: label {label} is out of range; allowed are 0 to {classes - 1}")
    problems.raise_if_any()


def _check_training_targets(source: SourceSplits, train: Records) -> None:
    fault = task_of(source.task).targets_fault(train.labels, source.class_names)
    if fault is not None:
        raise DataError(f"{source.subject}: {fault}")


def _check_training_classes(source: SourceSplits, train: Records) -> None:
    task, names = task_of(source.task), source.class_names
    counts = task.images_of(train.labels, len(names))
    empty = [name for name, images in zip(names, counts, strict=True) if not images]
    if empty:
        raise DataError(
            f"{source.subject}: {len(empty)} of {len(names)} {task.words.outputs} are empty, with no image among the "
            f"{len(train)} of the train split: {some(empty)}; add images, leave the {task.words.output} out, or raise "
            "data.train"
        )
