"""Several objectives by name: what is recorded, what the front holds, and that a resumed search is the same."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.study import StudyDirection

from glorasearch.db import TrialStorage
from glorasearch.errors import ConfigError
from glorasearch.search import InProcessExecutor, SearchConfig, TrialRecord
from glorasearch.search.front import front
from glorasearch.space import EvaluationTask, Score, Subnet

OBJECTIVES = ("tempered", "bytes", "latency")
CONFIG = SearchConfig(sampler="nsga2", objectives=OBJECTIVES, trials=60, population=12)


def latency(subnet: Subnet) -> float:
    """Not a function of the parameters."""
    return 1.0 + int(subnet.digest[:4], 16) / 65536


@pytest.fixture
def costs():
    return {"latency": latency}


def test_every_trial_records_its_objectives(new_search, costs):
    search = new_search()
    outcome = search.run(CONFIG, costs=costs)
    storage = TrialStorage(search.database)
    study = storage.get_study_id_from_name("study")
    assert storage.get_study_directions(study) == [StudyDirection.MINIMIZE] * 3
    for number, _, values, attrs, _ in search.trials:
        assert values == [attrs["tempered"], attrs["cost_bytes"], attrs["cost_latency"]], number
        assert attrs["cost_bytes"] == 4 * attrs["parameters"]
    assert outcome.best.score.tempered == min(values[0] for _, _, values, *_ in search.trials)
    expected = {trial.number for trial in optuna.Study("study", storage).best_trials}
    assert {record.number for record in outcome.pareto} <= expected
    assert {tuple(map(record.value, OBJECTIVES)) for record in outcome.pareto} == {
        tuple(values) for number, _, values, *_ in search.trials if number in expected
    }
    row = outcome.best.to_row()
    assert (row["bytes"], row["latency"], row["training_flops"]) == (*outcome.best.costs.values(), None)


def test_resumed_it_makes_the_same_trials(new_search, costs, evaluator):
    def interrupted(task: EvaluationTask):
        if len(done) == 31:
            raise KeyboardInterrupt
        done.append(task)
        return evaluator(task)

    done: list[EvaluationTask] = []
    whole, cut = new_search(), new_search()
    expected = whole.run(CONFIG, costs=costs)
    with pytest.raises(KeyboardInterrupt):
        cut.run(CONFIG, InProcessExecutor(interrupted), costs=costs)
    found = cut.run(CONFIG, costs=costs)
    assert cut.trials == whole.trials
    assert found.pareto == expected.pareto
    with pytest.raises(Exception, match=r"search\.objectives was"):
        cut.run(CONFIG.replace(objectives=("tempered", "bytes")))


def test_what_nobody_counts_is_refused(new_search):
    with pytest.raises(ConfigError, match="nothing here counts latency"):
        new_search().run(CONFIG)


def test_the_front_is_of_what_no_other_trial_beats() -> None:
    rng = np.random.default_rng(0)
    records = [
        TrialRecord(n, "", int(a), Score(int(b), 9, 1.0, 1.0, 1.0), costs={"latency": float(c)})
        for n, (a, b, c) in enumerate(rng.integers(0, 9, (80, 3)))
    ]
    found = front(records, ("latency", "accuracy", "parameters"))
    vectors = np.array([[one.parameters, -one.score.correct, one.costs["latency"]] for one in records])
    beaten = [bool(((vectors <= own).all(1) & (vectors < own).any(1)).any()) for own in vectors]
    expected = {tuple(own) for own, worse in zip(vectors.tolist(), beaten, strict=True) if not worse}
    assert len(found) == len(expected) > 2
    assert {(one.parameters, -one.score.correct, one.costs["latency"]) for one in found} == expected
    assert [one.costs["latency"] for one in found] == sorted(one.costs["latency"] for one in found)
