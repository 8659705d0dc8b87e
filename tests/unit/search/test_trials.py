"""A trial's record: everything of its score is stored and read back, and what ranks before what."""

from dataclasses import fields, replace
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from glorasearch.db.columns import json_copy
from glorasearch.errors import SearchError
from glorasearch.search import TrialRecord
from glorasearch.search.trials import PARAMETERS, SUBNET, has_score, rank, worth
from glorasearch.space import FITNESSES, Score

FULL = Score(correct=3, total=4, cross_entropy=0.1 + 0.2, tempered=0.2, beta=0.5, seconds=0.5)
STOPPED = Score(1, 4, cross_entropy=1.25, tempered=1.0, beta=0.25, seconds=0.125, bound=0.7, stopped_after=2)
OF_CLASSES = {"balanced_accuracy": 0.6, "macro_f1": 0.4, "auc": 0.9}


def stored(record: TrialRecord) -> dict[str, Any]:
    """The user attributes of the trial in the database."""
    attrs = {SUBNET: record.subnet_digest, PARAMETERS: record.parameters} | record.to_attrs()
    found: dict[str, Any] = json_copy(attrs)
    return found


@pytest.mark.parametrize("score", [FULL, STOPPED])
@pytest.mark.parametrize("reused_from", [None, 2])
def test_what_is_stored_is_read_back(score: Score, reused_from: int | None) -> None:
    record = TrialRecord(7, "digest", 10, score, reused_from)
    assert TrialRecord.from_attrs(7, stored(record)) == record


def test_every_field_of_a_score_is_stored_under_its_name() -> None:
    """So a field that is added to `Score` needs no change elsewhere to get into the database and back."""
    stopped = replace(STOPPED, **OF_CLASSES)
    of_classes = [field for field in fields(Score) if field.name != "squared_error"]
    assert all(getattr(stopped, field.name) is not None for field in of_classes)
    record = TrialRecord(0, "digest", 10, stopped)
    attrs = stored(record)
    hidden = {name: f"seen_{name}" for name in ("cross_entropy", "tempered", "beta", *OF_CLASSES)}
    for field in of_classes:
        assert attrs[hidden.get(field.name, field.name)] == getattr(stopped, field.name)
    assert TrialRecord.from_attrs(0, attrs) == record


def test_scores_of_the_hardest_images_are_not_taken_for_those_of_all() -> None:
    full, stopped = (stored(TrialRecord(0, "digest", 10, score)) for score in (FULL, STOPPED))
    measures = {"accuracy", "cross_entropy", "tempered", "beta", "temperature"}
    assert full.keys() - stopped.keys() == measures
    assert stopped.keys() - full.keys() == {f"seen_{name}" for name in measures} | {"bound", "stopped_after"}
    assert (full["accuracy"], stopped["seen_accuracy"]) == (0.75, 0.5)
    assert (full["temperature"], stopped["seen_temperature"]) == (2.0, 4.0)


@pytest.mark.parametrize(
    ("state", "attrs", "expected"),
    [
        (TrialState.COMPLETE, {}, True),
        (TrialState.PRUNED, {"bound": 0.5}, True),
        (TrialState.PRUNED, {}, False),
        (TrialState.FAIL, {}, False),
        (TrialState.RUNNING, {}, False),
    ],
)
def test_which_stored_trials_have_a_score(state: TrialState, attrs: dict[str, Any], expected: bool) -> None:
    assert has_score(FrozenTrial(0, state, None, None, None, {}, {}, attrs, {}, {}, 0, values=[1.0])) == expected


def test_ties_go_to_the_other_measure_and_then_to_the_earlier_trial() -> None:
    def records(*scores: tuple[int, float]) -> list[TrialRecord]:
        return [
            TrialRecord(n, "", 0, Score(correct, 10, nats, tempered=3 - nats, beta=1.0))
            for n, (correct, nats) in enumerate(scores)
        ]

    def order(fitness: Any, found: list[TrialRecord]) -> list[int]:
        return [record.number for record in sorted(found, key=lambda record: rank(fitness, record))]

    flawless = [TrialRecord(n, "", 0, Score(10, 10, nats, 0.0, 16.0)) for n, nats in enumerate((0.3, 0.1, 0.1))]
    assert order("tempered", flawless) == [1, 2, 0]
    found = records((5, 1.0), (6, 2.0), (6, 1.0), (6, 1.0), (5, 0.5))
    assert order("accuracy", found) == [2, 3, 1, 4, 0]
    assert order("cross_entropy", found) == [4, 2, 3, 0, 1]
    assert order("tempered", found) == [1, 2, 3, 0, 4]
    balanced = zip(found, (0.5, 0.5, 0.7, 0.7, 0.6), strict=True)
    scored = [replace(one, score=replace(one.score, balanced_accuracy=value)) for one, value in balanced]
    assert order("balanced_accuracy", scored) == [2, 3, 4, 1, 0]


def test_the_objective_of_a_stopped_trial_is_its_bound() -> None:
    assert [worth(fitness, FULL) for fitness in FITNESSES] == [FULL.tempered, 0.75, FULL.cross_entropy]
    assert [worth(fitness, STOPPED) for fitness in FITNESSES] == [0.7, 0.7, 0.7]


def test_a_trial_of_an_earlier_version_says_so() -> None:
    attrs = stored(TrialRecord(3, "digest", 10, FULL))
    del attrs["tempered"], attrs["beta"]
    with pytest.raises(SearchError, match=r"trial 3 is of an earlier version, .* not record tempered, beta; .*--fresh"):
        TrialRecord.from_attrs(3, attrs)
