"""The points of a run's curves as the database has them.

Files and trackers repeat the database, so a run that goes on after a kill has each point once, and none is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from glorasearch.db import Metric, RaceMember, RaceStore, RunStore
from glorasearch.race import Judge
from glorasearch.race.scores import standing
from glorasearch.runs.curves.rows import RUNGS, TEST, Row
from glorasearch.runs.fold_scores import fold_score
from glorasearch.runs.results import PilotResult, RaceResult, Results, TestResult, TrainResult
from glorasearch.space.score import BETAS


def stored_rows(
    runs: RunStore, name: str, stages: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any]
) -> Iterator[Row]:
    """All points of a run, by stage and step.

    What was taken over from another run, a supernet or pilots, has its curve from there, if that run is still known.

    Args:
        runs: of the database.
        name: of the run.
        stages: the results of its finished stages.
        config: its configuration, as JSON.
    """
    results = Results(stages, name)
    trained, piloted = results.readable(TrainResult), results.readable(PilotResult)
    yield from _metric_rows(runs.metrics(name))
    if trained is not None and trained.from_run is not None and runs.exists(trained.from_run):
        yield from _metric_rows(runs.metrics(trained.from_run, TrainResult.stage))
    if piloted is not None and piloted.from_run is not None and runs.exists(piloted.from_run):
        yield from _metric_rows(one for one in runs.metrics(piloted.from_run) if one.stage.startswith("rate:"))
    members = RaceStore(runs.database).list(name)
    if members:
        last = max(member.rung for member in members)
        judge = config.get("race", {}).get("judge", "accuracy")
        yield from rung_rows(members, last if RaceResult.stage in stages else last - 1, judge)
    from glorasearch.runs.curves.search_curve import SearchCurve  # needs Optuna, which takes a second to import

    yield from SearchCurve(runs.database, name, config.get("search", {}), config.get("log", {})).stored()
    tested = results.readable(TestResult)
    if tested is not None:
        yield test_row(tested, results)


def _metric_rows(metrics: Iterable[Metric]) -> Iterator[Row]:
    for (stage, step), of_step in groupby(metrics, key=lambda metric: (metric.stage, metric.step)):
        yield Row(stage, step, {metric.name: metric.value for metric in of_step})


def rung_rows(members: Collection[RaceMember], last: int, judge: Judge = "accuracy") -> Iterator[Row]:
    """Accuracy and tempered cross-entropy of the candidates after each rung, over all folds that have judged them.

    And what judges, if that is another one.

    Args:
        members: the trainings of a race.
        last: the last rung that is complete.
        judge: of the race.
    """
    of_candidate: dict[str, list[RaceMember]] = {}
    for member in members:
        of_candidate.setdefault(member.candidate, []).append(member)
    for rung in sorted({member.rung for member in members if member.rung <= last}):
        values: dict[str, float] = {}
        for trained in of_candidate.values():
            if any(member.rung == rung for member in trained):
                values |= _standing([member for member in trained if member.rung <= rung], judge)
        yield Row(RUNGS, rung, values)


def _standing(members: Sequence[RaceMember], judge: Judge) -> dict[str, float]:
    found, label = standing(map(fold_score, members), BETAS, judge), members[0].label
    values = {judge: found.judged, "accuracy": found.accuracy, "tempered": found.tempered}
    return {f"{name}/{label}": value for name, value in values.items() if value is not None}


def test_row(tested: TestResult, results: Results) -> Row:
    """What the test images said of winner and baselines."""
    scores = {
        "accuracy": tested.test_accuracy,
        "accuracy_inherited": tested.test_accuracy_inherited,
        "squared_error": tested.test_error,
        "squared_error_inherited": tested.test_error_inherited,
    }
    values = {name: value for name, value in scores.items() if value is not None}
    if results.pick is not None:
        values["parameters"] = float(results.pick.parameters)
    if tested.random_subnets is not None and tested.random_subnets.mean_test_accuracy is not None:
        values["accuracy_random"] = tested.random_subnets.mean_test_accuracy
    values |= {metric: found.value for metric, found in tested.metrics.items() if found.value is not None}
    for baseline in dict.fromkeys((*tested.baselines, *tested.baselines_errors)):
        if baseline in tested.baselines:
            values[f"baseline/{baseline}/accuracy"] = tested.baselines[baseline]
        else:
            values[f"baseline/{baseline}/squared_error"] = tested.baselines_errors[baseline].mean
        for metric, found in tested.baselines_metrics.get(baseline, {}).items():
            if found.value is not None:
                values[f"baseline/{baseline}/{metric}"] = found.value
    return Row(TEST, 0, values)
