"""Loading the three disjoint splits of a data configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from glorasearch.data.carve import ROLES, CarvedSplits, carve
from glorasearch.data.config import DataConfig
from glorasearch.data.copies import describe_copies, keep_together
from glorasearch.data.examine import Check, Examined
from glorasearch.data.input_spec import InputSpec
from glorasearch.data.names import describe_ignored
from glorasearch.data.overlap import OverlapReport, find_overlap
from glorasearch.data.pixels import LazyPixels, Pixels, ResidentPixels, decode, examine_all, image_transform
from glorasearch.data.reading import Reading
from glorasearch.data.records import ArrayRecords, Records
from glorasearch.data.scale import check_scale
from glorasearch.data.sources import SourceSplits, read_source
from glorasearch.data.split_sets import SearchData, Splits
from glorasearch.data.splits import SearchSplit, TestSplit, TrainSplit
from glorasearch.data.views import GIB, View, enlarged, larger_spec, views_that_fit
from glorasearch.errors import DataError
from glorasearch.tasks import Task, task_of

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
"""Called with (images done, images in total)."""


@dataclass(frozen=True)
class SourceSummary:
    """Classes and sizes of the splits, before any image is read."""

    class_names: tuple[str, ...]
    train: int
    search: int
    test: int
    by_class: Mapping[str, tuple[int, ...]]
    """`train`, `search`, `test` → images of each class; copies that change places later may make one more or less."""


@dataclass(frozen=True)
class _Loaded:
    source: SourceSplits
    carved: CarvedSplits
    spec: InputSpec
    fingerprints: Mapping[str, list[bytes]]
    overlap: OverlapReport
    pixels: Mapping[str, Mapping[View, Pixels]]
    reading: Reading | None
    turned: int
    scale: str
    copies: str


def check_source(config: DataConfig) -> SourceSummary:
    """Check names, lists, folders, labels and sizes; no image is opened.

    Raises:
        DataError: if one of them is wrong.
    """
    carved = carve(read_source(config), config)
    sizes = {role: len(records) for role, records in carved.records.items()}
    classes, task = len(carved.class_names), task_of(config.task)
    by_class = {role: tuple(task.images_of(records.labels, classes)) for role, records in carved.records.items()}
    return SourceSummary(carved.class_names, **sizes, by_class=by_class)


def load_splits(
    config: DataConfig, spec: InputSpec, progress: Progress | None = None, *, said: bool = False, crops: bool = False
) -> Splits:
    """The three splits of a source.

    The same configuration gives the same splits, byte for byte, in any process. Equal images are in one split where
    splits are drawn out of one list. All images are read and checked here;
    splits that fit into `config.max_memory_gib` are decoded and kept. Of the others, each file is checked (it exists,
    is an image, is not truncated) by decoding it once.

    Args:
        config: the source and the sizes.
        spec: the input of the backbone; `config` may override size, mean and std.
        progress: called in this thread with the number of images done and in total.
        said: log nothing: who called has said what is unusual about the data.
        crops: keep a larger view of the images that are trained on, too, for augmentations to crop from.

    Raises:
        DataError: if the source, an image, a label or a size is wrong, or if splits share more than 1 % of their
            images and `config.allow_overlap` is not set.
    """
    loaded = _load(config, spec, ROLES, progress, said=said, crops=crops)
    return Splits(
        _train(loaded),
        _search(loaded),
        _test(loaded),
        loaded.carved.class_names,
        loaded.overlap,
        config.source,
        loaded.reading,
        loaded.turned,
        loaded.scale,
        loaded.source.ignored,
        loaded.copies,
        {role: [own.file(index) for index in range(len(own))] for role, own in loaded.carved.records.items()},
    )


def load_search_data(
    config: DataConfig, spec: InputSpec, progress: Progress | None = None, *, crops: bool = False
) -> SearchData:
    """Training and search split, equal to those of `load_splits`, without the test split.

    Images of the test split are compared by content hash with the others, and decoded once, so that a broken one
    is found before anything is trained.

    Raises:
        DataError: as `load_splits`.
    """
    loaded = _load(config, spec, ("train", "search"), progress, crops=crops)
    return SearchData(_train(loaded), _search(loaded), loaded.carved.class_names, loaded.reading)


def load_search_split(config: DataConfig, spec: InputSpec, progress: Progress | None = None) -> SearchSplit:
    """The search split of `load_splits` alone, for a worker. The other splits' images are compared, not decoded.

    Raises:
        DataError: as `load_splits`.
    """
    return _search(_load(config, spec, ("search",), progress, thorough=False))


def load_test_split(config: DataConfig, spec: InputSpec, progress: Progress | None = None) -> TestSplit:
    """The test split of `load_splits` alone, for the final report.

    Raises:
        DataError: as `load_splits`.
    """
    return _test(_load(config, spec, ("test",), progress))


def _load(
    config: DataConfig,
    spec: InputSpec,
    wanted: Collection[str],
    progress: Progress | None,
    *,
    thorough: bool = True,
    said: bool = False,
    crops: bool = False,
) -> _Loaded:
    """Load the wanted splits; unless `thorough`, who called has checked pixels and scale and `said` what is unusual."""
    source, reading = read_source(config), Reading.of(config)
    before = carve(source, config)
    spec = source.adapt(spec.override(size=config.size, mean=config.mean, std=config.std))
    sizes = {role: len(records) for role, records in before.records.items()}
    most: dict[View, InputSpec] = {"plain": spec}
    if crops:
        most["larger"] = enlarged(spec)
    decoded = {role for role, _ in views_that_fit(sizes, most, config.max_memory_gib)}.intersection(wanted)
    total, done = sum(sizes.values()) + sum(sizes[role] for role in decoded), 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    checks: dict[str, Check] = {role: "scale" if role in decoded and not crops else "pixels" for role in ROLES}
    found = examine_all(source.subject, before.records, reading, checks if thorough else {}, advance)
    carved, found, copies = _keep_together(source, config, before, found)
    if thorough:
        examine_all(source.subject, _unseen(source, before, carved, checks), reading, checks)
    fingerprints = {role: [image.fingerprint for image in images] for role, images in found.items()}
    overlap = find_overlap(fingerprints, lambda role, index: carved.records[role].name(index))
    overlap.refuse(source.subject, config.allow_overlap)
    named = ((carved.records[role].name(place), image) for role in found for place, image in enumerate(found[role]))
    scale = check_scale(source.subject, named, reading) if thorough else ""
    turned = sum("orientation" in image.mark for images in found.values() for image in images)
    if thorough and not said:
        _say(source, overlap, scale, turned, copies)
    specs: dict[View, InputSpec] = {"plain": spec}
    if crops and (larger := larger_spec(spec, found)) is not None:
        specs["larger"] = larger
    kept = views_that_fit(sizes, specs, config.max_memory_gib)
    if "larger" in specs and ("train", "larger") not in kept and not said:
        logger.warning(
            "%s: the larger views of the training images take %.3g GiB and do not fit into data.max_memory_gib = %g: "
            "they are decoded in every step",
            source.subject,
            sizes["train"] * specs["larger"].image_bytes / GIB,
            config.max_memory_gib,
        )
    views: dict[str, dict[View, InputSpec]] = {role: specs if role != "test" else {"plain": spec} for role in wanted}
    resident = {role: {view for view in views[role] if (role, view) in kept} for role in wanted}
    total = done + sum(len(carved.records[role]) for role in wanted if resident[role])  # copies move between splits
    pixels: dict[str, Mapping[View, Pixels]] = {
        role: _read(carved.records[role], views[role], resident[role], reading, advance) for role in wanted
    }
    own = None if isinstance(source.train, ArrayRecords) else reading
    return _Loaded(source, carved, spec, fingerprints, overlap, pixels, own, turned, scale, copies)


def _keep_together(
    source: SourceSplits, config: DataConfig, carved: CarvedSplits, found: dict[str, list[Examined]]
) -> tuple[CarvedSplits, dict[str, list[Examined]], str]:
    """Equal images in one of the splits that are drawn out of one list, and what is to be said of them.

    Raises:
        DataError: if no image is left for a split, because all are copies.
    """
    if not carved.drawn:
        return carved, found, ""
    labels, parts = source.train.labels, list(carved.drawn.values())
    strata = task_of(source.task).strata(labels)
    contents = [[image.fingerprint for image in found[role]] for role in carved.drawn]
    copies = describe_copies(
        np.concatenate(parts), [own for part in contents for own in part], labels, source.train.name
    )
    drawn = dict(zip(carved.drawn, keep_together(parts, contents, strata, config.seed), strict=True))
    if all(np.array_equal(drawn[role], carved.drawn[role]) for role in drawn):
        return carved, found, copies
    empty = [role for role, indices in drawn.items() if not len(indices)]
    if empty:
        raise DataError(f"{source.subject}: no image is left for the {empty[0]} split: {copies}; add other images")
    known: dict[int, Examined] = {}
    for role, own in carved.drawn.items():
        known |= zip(own.tolist(), found[role], strict=True)
    moved = {role: [known[index] for index in indices.tolist()] for role, indices in drawn.items()}
    return carved.redrawn(source, config, drawn), {role: moved.get(role, found[role]) for role in found}, copies


def _unseen(
    source: SourceSplits, before: CarvedSplits, carved: CarvedSplits, checks: Mapping[str, Check]
) -> dict[str, Records]:
    """Images that came into a split whose images are examined further than those of the split that they came from."""
    came = {role: np.setdiff1d(own, before.drawn[role]) for role, own in carved.drawn.items()}
    return {role: source.train.take(own) for role, own in came.items() if len(own) and checks[role] == "pixels"}


def _say(source: SourceSplits, overlap: OverlapReport, scale: str, turned: int, copies: str) -> None:
    """Log what is unusual about the data."""
    if overlap.images:
        logger.warning("%s: %d images are in two splits; the report lists them", source.subject, overlap.images)
    if source.ignored:
        logger.warning("%s: not used: %s", source.subject, describe_ignored(source.ignored))
    if copies:
        logger.warning("%s: %s", source.subject, copies)
    if scale:
        logger.warning("%s: %s", source.subject, scale)
    if turned:
        logger.info("%s: %d images are turned upright as their EXIF says", source.subject, turned)


def _read(
    records: Records,
    specs: Mapping[View, InputSpec],
    kept: Collection[View],
    reading: Reading,
    advance: Callable[[int], None],
) -> dict[View, Pixels]:
    """The views of a split, those in `kept` decoded, all of an image at once."""
    found: dict[View, Pixels] = {view: LazyPixels(records, spec, reading) for view, spec in specs.items()}
    chosen = [view for view in specs if view in kept]
    if chosen:
        transforms = [(specs[view], image_transform(specs[view])) for view in chosen]
        decoded = decode(records, transforms, reading, range(len(records)), advance)
        found |= {view: ResidentPixels(images) for view, images in zip(chosen, decoded, strict=True)}
    return found


def _train(loaded: _Loaded) -> TrainSplit:
    return TrainSplit(*_parts(loaded, "train"), larger=loaded.pixels["train"].get("larger"))


def _search(loaded: _Loaded) -> SearchSplit:
    return SearchSplit(*_parts(loaded, "search"), larger=loaded.pixels["search"].get("larger"))


def _test(loaded: _Loaded) -> TestSplit:
    return TestSplit(*_parts(loaded, "test"))


def _parts(loaded: _Loaded, role: str) -> tuple[Pixels, torch.Tensor, InputSpec, list[bytes], int, str, Task]:
    """The arguments of a split's class."""
    records = loaded.carved.records
    task = task_of(loaded.source.task).fitted(records["train"].labels)
    labels = torch.from_numpy(task.encoded(records[role].labels).copy())
    pixels, classes = loaded.pixels[role]["plain"], len(loaded.carved.class_names)
    origin = loaded.carved.origins[role]
    return pixels, labels, loaded.spec, loaded.fingerprints[role], classes, origin, task
