"""Whether runs can be compared: what differs between them besides the method."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from glorasearch.config import Role
from glorasearch.db import RunRecord
from glorasearch.identity import settings_of
from glorasearch.runs.config import RunConfig
from glorasearch.runs.results import Results

SECTIONS: Final = ("backbone", "data", "train", "refit")
"""The sections of a run file in which runs that are compared should agree, but for the method and its seeds."""
ROLES: Final = ("train", "search", "test")


def incomparabilities(runs: Sequence[RunRecord], groups: Sequence[Sequence[str]] | None = None) -> list[str]:
    """A line for everything besides the method that differs between runs: data, splits, steps, recipe.

    Args:
        runs: those that are compared.
        groups: the names of the runs that are folded into one row, where they are: runs of different seeds are then not
            expected to have the same images, but every group to have the same seeds.
    """
    lines = [_line(key, values) for key, values in _settings(runs).items() if len(values) > 1]
    lines += _images(runs, apart=groups is not None)
    if groups is not None:
        lines += _seeds(runs, groups)
    return lines


def _settings(runs: Sequence[RunRecord]) -> dict[str, dict[str, list[str]]]:
    """Key of the run file → value, as JSON → the runs that have it."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        settings = settings_of(RunConfig, run.config, without=tuple(Role))
        for section in SECTIONS:
            for key, value in settings[section].items():
                name = f"{section}.{key}"
                found.setdefault(name, {}).setdefault(json.dumps(value, sort_keys=True), []).append(run.name)
    return found


def _images(runs: Sequence[RunRecord], *, apart: bool) -> Iterator[str]:
    """Splits whose images differ; `apart` compares runs of one seed only."""
    by_seed: list[str] = []
    for role in ROLES:
        seen: dict[int, dict[str, list[str]]] = {}
        for run in runs:
            digest = split_digest(run, role)
            if digest is not None:
                seen.setdefault(run.config["seed"], {}).setdefault(digest[:8], []).append(run.name)
        unlike = [digests for digests in seen.values() if len(digests) > 1]
        yield from (_line(f"images of the {role} split", digests) for digests in unlike)
        if not unlike and len({digest for digests in seen.values() for digest in digests}) > 1:
            by_seed.append(role)
    if by_seed and not apart:
        seeds: dict[str, list[str]] = {}
        for run in runs:
            seeds.setdefault(str(run.config["seed"]), []).append(run.name)
        what = f"images of the split{'s' if len(by_seed) > 1 else ''} {', '.join(by_seed)}, drawn by the seed"
        yield f"{_line(what, seeds)}; --group folds runs that differ in the seed only"


def split_digest(run: RunRecord, role: str) -> str | None:
    """The content of a split as the run saw it; None as long as no finished stage says."""
    results = Results(run.stages)
    if results.test is not None:
        splits = results.test.splits
        return {"train": splits.train, "search": splits.search, "test": splits.test}[role].digest
    seen = {"train": results.train, "search": results.search}.get(role)
    return None if seen is None else seen.split


def _seeds(runs: Sequence[RunRecord], groups: Sequence[Sequence[str]]) -> Iterator[str]:
    """Groups that have other seeds than others, and seeds that a group has twice."""
    seed_of = {run.name: int(run.config["seed"]) for run in runs}
    having: dict[str, list[str]] = {}
    for names in groups:
        seeds = sorted(seed_of[name] for name in names)
        having.setdefault(", ".join(map(str, sorted(set(seeds)))), []).append("+".join(names))
        if len(set(seeds)) < len(seeds):
            yield f"{', '.join(names)}: a seed stands among them more than once, so the spread is understated"
    if len(having) > 1:
        yield _line("seeds", having)


def _line(what: str, values: Mapping[str, Sequence[str]]) -> str:
    return f"{what}: " + ", ".join(f"{value} ({', '.join(names)})" for value, names in values.items())
