"""Finding the pairs among compared runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from glorasearch.config import Role
from glorasearch.db import RunRecord
from glorasearch.identity import digest, identity_of
from glorasearch.runs.config import RunConfig
from glorasearch.runs.fixed_methods import BEST_FIXED
from glorasearch.runs.pairs import Pair, Paired, PairedMethods, PairedModels
from glorasearch.runs.paths import space_label
from glorasearch.runs.results import Results, TestResult, paired
from glorasearch.statistics import holm


def pair_models(runs: Sequence[RunRecord]) -> Paired:
    """The model of every run against that of the first one that was tested, on the same test images."""
    tested = {run.name: result for run in runs if (result := Results(run.stages, run.name).test) is not None}
    if len(runs) < 2 or not tested:
        return Paired()
    first, *others = tested
    unpaired = {run.name: "not tested" for run in runs if run.name not in tested}
    same = [name for name in others if _test_images(tested[name]) == _test_images(tested[first])]
    unpaired |= {name: f"other test images than {first}" for name in others if name not in same}
    unlike = [name for name in same if type(tested[name].judged) is not type(tested[first].judged)]
    unpaired |= dict.fromkeys(unlike, f"another task than {first}")
    same = [name for name in same if name not in unlike]
    base = tested[first].judged
    images = [paired(own, base) for name in same if base is not None and (own := tested[name].judged) is not None]
    adjusted = holm([pair.p for pair in images])
    pairs = zip(same, images, adjusted, strict=True)
    return Paired(
        tuple(PairedModels(run=name, against=first, images=pair, p_adjusted=p) for name, pair, p in pairs), unpaired
    )


def pair_methods(runs: Sequence[RunRecord]) -> Paired:
    """Every method against the first one that was tested, by seed and task; then each against its own baselines."""
    methods = _Method.all_of(runs)
    tested = [method for method in methods if method.tested]
    if not tested:
        return Paired()
    first, *others = tested
    found = [
        (method.label, first.label, pairs)
        for method in others
        if (pairs := _pairs(method, method.accuracies(), first, first.accuracies()))
    ]
    own = [
        (method.label, _own_baseline(name), _pairs(method, method.accuracies(), method, accuracies))
        for method in tested
        for name, accuracies in method.baselines().items()
    ]
    unpaired = {run.name: "not tested" for run in runs if Results(run.stages, run.name).test is None}
    for method in others:
        unpaired |= method.without_partner([first])
    if others:
        unpaired |= first.without_partner(others)
    return Paired((*PairedMethods.of(found), *PairedMethods.of(own)), unpaired)


class _Key(NamedTuple):
    """What the two sides of a pair have in common."""

    data: str
    """Digest of the `[data]` section."""
    task: str
    """Its name."""
    seed: int
    test: str
    """Digest of the test images."""

    @classmethod
    def of(cls, run: RunRecord, tested: TestResult) -> Self:
        return cls(_data(run), run.config["data"]["source"], run.config["seed"], _test_images(tested))


@dataclass(frozen=True)
class _Method:
    """The runs that differ in seed and task only."""

    label: str
    tested: dict[_Key, list[tuple[str, TestResult]]] = field(default_factory=dict)
    """Names and results of the runs; several where a seed occurs more than once."""

    @classmethod
    def all_of(cls, runs: Sequence[RunRecord]) -> list[Self]:
        """In the order of their first runs; a label that would occur twice names the runs."""
        groups: dict[str, list[RunRecord]] = {}
        for run in runs:
            groups.setdefault(configuration_without(run.config, "data"), []).append(run)
        labels = [space_label(members[0].config["space"]["name"]) for members in groups.values()]
        found = []
        for label, members in zip(labels, groups.values(), strict=True):
            names = ", ".join(run.name for run in members)
            method = cls(label if labels.count(label) == 1 else f"{label} ({names})")
            for run in members:
                result = Results(run.stages, run.name).test
                if result is not None:
                    method.tested.setdefault(_Key.of(run, result), []).append((run.name, result))
            found.append(method)
        return found

    def accuracies(self) -> dict[_Key, float]:
        """Test accuracy; the mean where a seed occurs more than once."""
        return {
            key: statistics.fmean(known)
            for key, results in self.tested.items()
            if (known := [one.test_accuracy for _, one in results if one.test_accuracy is not None])
        }

    def baselines(self) -> dict[str, dict[_Key, float]]:
        """The same of every baseline, by its name."""
        each: dict[str, dict[_Key, list[float]]] = {}
        for key, results in self.tested.items():
            for _, result in results:
                for name, accuracy in result.baselines.items():
                    each.setdefault(name, {}).setdefault(key, []).append(accuracy)
        return {name: {key: statistics.fmean(values) for key, values in keys.items()} for name, keys in each.items()}

    def names(self, key: _Key) -> list[str]:
        """The runs with that key."""
        return [name for name, _ in self.tested.get(key, ())]

    def without_partner(self, others: Iterable[_Method]) -> dict[str, str]:
        """Why runs of this method are in no pair with the others."""
        known = {key for other in others for key in other.tested}
        lonely = [name for key in self.tested if key not in known for name in self.names(key)]
        return dict.fromkeys(lonely, "no run to compare it with has its seed, task and test images")


def _pairs(
    method: _Method, first: Mapping[_Key, float], other: _Method, second: Mapping[_Key, float]
) -> tuple[Pair, ...]:
    return tuple(
        Pair(
            task=key.task,
            seed=key.seed,
            runs=tuple(dict.fromkeys([*method.names(key), *other.names(key)])),
            difference=first[key] - second[key],
        )
        for key in first
        if key in second
    )


def by_task(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """The runs of each task apart, if several methods have run on the same tasks; else all together.

    A task is a `[data]` section, whatever its seed. Runs of different tasks are not compared with each other then.
    """
    tasks: dict[str, list[RunRecord]] = {}
    methods: dict[str, set[str]] = {}
    for run in runs:
        tasks.setdefault(_data(run), []).append(run)
        methods.setdefault(configuration_without(run.config, "data"), set()).add(_data(run))
    whole = len(methods) > 1 and all(found == tasks.keys() for found in methods.values())
    return list(tasks.values()) if whole else [list(runs)]


def _data(run: RunRecord) -> str:
    """Digest of the `[data]` section without its seed."""
    return digest(identity_of(RunConfig, run.config, without=(Role.BOOKKEEPING, Role.SEED)).get("data", {}))


def _own_baseline(name: str) -> str:
    return "the best fixed method of its race" if name == BEST_FIXED else f"its baseline {space_label(name)}"


def _test_images(tested: TestResult) -> str:
    return tested.splits.test.digest


def configuration_without(config: Mapping[str, Any], *sections: str) -> str:
    """Digest of all that decides the winner, except the seeds and some sections."""
    content = identity_of(RunConfig, config, without=(Role.BOOKKEEPING, Role.SEED))
    space = content.pop("spaces")["space"]
    left_out = ("report", "export", *sections)
    return digest({key: value for key, value in content.items() if key not in left_out} | {"spaces": space})
