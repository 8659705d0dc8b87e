"""Comparability of runs: what differs between them apart from the method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from glorasearch.config import Role
from glorasearch.db import RunRecord
from glorasearch.identity import settings_of
from glorasearch.runs.config import RunConfig
from glorasearch.runs.results import Results

SECTIONS: Final = ("backbone", "data", "train", "race", "refit")
"""Sections of a run file in which compared runs should agree, except for fields with a `Role`."""
LONGEST_NAMES: Final = 80
"""Characters of the names of classes that a line shows."""
SPLITS: Final = ("train", "search", "test")


def incomparabilities(runs: Sequence[RunRecord], groups: Sequence[Sequence[str]] | None = None) -> list[str]:
    """A line for every difference between runs apart from the method: data, splits, steps, recipe.

    Args:
        runs: those that are compared.
        groups: names of the runs of each row, if runs that differ in their seeds only are folded into one. Runs with
            different seeds need not have the same images then, but every group should have the same seeds.
    """
    lines = [_line(key, values) for key, values in _settings(runs).items() if len(values) > 1]
    lines += _images(runs, grouped=groups is not None)
    lines += _class_names(runs)
    if groups is not None:
        lines += _seeds(runs, groups)
    return lines


def _settings(runs: Sequence[RunRecord]) -> dict[str, dict[str, list[str]]]:
    """Key of the run file → value as JSON → the runs that have it."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        settings = settings_of(RunConfig, run.config, without=tuple(Role))
        for section in SECTIONS:
            for key, value in settings[section].items():
                name = f"{section}.{key}"
                found.setdefault(name, {}).setdefault(json.dumps(value, sort_keys=True), []).append(run.name)
    return found


def _images(runs: Sequence[RunRecord], *, grouped: bool) -> Iterator[str]:
    """Splits with different images; in groups, runs with different seeds may have different ones."""
    differing_by_seed: list[str] = []
    for split in SPLITS:
        seen: dict[int, dict[str, list[str]]] = {}
        for run in runs:
            digest = split_digest(run, split)
            if digest is not None:
                seen.setdefault(run.config["seed"], {}).setdefault(digest[:8], []).append(run.name)
        differing = [digests for digests in seen.values() if len(digests) > 1]
        yield from (_line(f"images of the {split} split", digests) for digests in differing)
        if not differing and len({digest for digests in seen.values() for digest in digests}) > 1:
            differing_by_seed.append(split)
    if differing_by_seed and not grouped:
        seeds: dict[str, list[str]] = {}
        for run in runs:
            seeds.setdefault(str(run.config["seed"]), []).append(run.name)
        plural = "s" if len(differing_by_seed) > 1 else ""
        what = f"images of the split{plural} {', '.join(differing_by_seed)}, drawn by the seed"
        yield f"{_line(what, seeds)}; --group folds runs that differ in the seed only"


def _class_names(runs: Sequence[RunRecord]) -> Iterator[str]:
    """Runs on equal numbers of classes in which a number stands for other names."""
    found: dict[str, list[str]] = {}
    for run in runs:
        tested = Results(run.stages).test
        if tested is not None and tested.splits.class_names:
            found.setdefault(", ".join(tested.splits.class_names), []).append(run.name)
    if len(found) > 1:
        yield _line("classes", {_shortened(names): own for names, own in found.items()})


def split_digest(run: RunRecord, split: str) -> str | None:
    """Digest of a split as the run saw it; None until a stage that read it has finished."""
    results = Results(run.stages, run.name)
    if results.test is not None:
        splits = results.test.splits
        return {"train": splits.train, "search": splits.search, "test": splits.test}[split].digest
    seen = {"train": results.train, "search": results.search}.get(split)
    return None if seen is None else seen.split


def _shortened(names: str) -> str:
    """Names of classes, cut after some, with a digest that tells long lists apart."""
    if len(names) <= LONGEST_NAMES:
        return names
    return f"{names[:LONGEST_NAMES]} ... ({hashlib.sha256(names.encode()).hexdigest()[:8]})"


def _seeds(runs: Sequence[RunRecord], groups: Sequence[Sequence[str]]) -> Iterator[str]:
    """Groups that have different seeds, and groups that have a seed twice."""
    seed_of = {run.name: int(run.config["seed"]) for run in runs}
    groups_with: dict[str, list[str]] = {}
    for names in groups:
        seeds = sorted(seed_of[name] for name in names)
        groups_with.setdefault(", ".join(map(str, sorted(set(seeds)))), []).append("+".join(names))
        if len(set(seeds)) < len(seeds):
            yield f"{', '.join(names)}: a seed occurs more than once, so the standard deviation is too small"
    if len(groups_with) > 1:
        yield _line("seeds", groups_with)


def _line(what: str, values: Mapping[str, Sequence[str]]) -> str:
    return f"{what}: " + ", ".join(f"{value} ({', '.join(names)})" for value, names in values.items())
