"""What `TrialStorage` promises beyond Optuna's contract: whole trials at once."""

import math
import pickle
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from support.trial_storage import DISTRIBUTIONS, PARAMS, counted_statements, reopened

from glorasearch.db import TrialStorage


def test_a_whole_trial_is_set_in_one_statement(storage: TrialStorage, study_id: int) -> None:
    storage.set_trial_params(storage.create_new_trial(study_id), PARAMS, DISTRIBUTIONS)
    trial_id = storage.create_new_trial(study_id)
    with counted_statements(storage) as sent:
        storage.set_trial_params(trial_id, PARAMS, DISTRIBUTIONS, {"digest": "abc"})
    assert len(sent) == 1
    for view in (storage, reopened(storage)):
        trial = view.get_trial(trial_id)
        assert trial.params == PARAMS
        assert list(trial.params) == list(PARAMS)
        assert trial.distributions == DISTRIBUTIONS
        assert trial.user_attrs == {"digest": "abc"}
        assert trial.state == TrialState.RUNNING


def test_distributions_are_stored_once_a_study(storage: TrialStorage, study_id: int) -> None:
    for _ in range(5):
        storage.set_trial_params(storage.create_new_trial(study_id), PARAMS, DISTRIBUTIONS)
    with storage.database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM glorasearch_distributions")).scalar() == len(DISTRIBUTIONS)


def test_each_trial_keeps_the_range_that_it_was_drawn_from(storage: TrialStorage, study_id: int) -> None:
    ranges = [FloatDistribution(0, 1), FloatDistribution(0, 2), FloatDistribution(0, 1)]
    for distribution in ranges:
        storage.set_trial_params(storage.create_new_trial(study_id), {"x": 0.5}, {"x": distribution})
    for view in (storage, reopened(storage)):
        assert [trial.distributions["x"] for trial in view.get_all_trials(study_id)] == ranges
    with pytest.raises(ValueError, match="different distribution kind"):
        storage.set_trial_params(storage.create_new_trial(study_id), {"x": 1}, {"x": IntDistribution(0, 1)})
    gene, other = CategoricalDistribution(("none", "vector")), CategoricalDistribution(("none", "lora:2"))
    storage.set_trial_params(storage.create_new_trial(study_id), {"gene": "none"}, {"gene": gene})
    with pytest.raises(ValueError, match="dynamic value space"):
        storage.set_trial_params(storage.create_new_trial(study_id), {"gene": "none"}, {"gene": other})


def test_a_trial_is_finished_in_one_statement(storage: TrialStorage, study_id: int) -> None:
    storage.create_new_trial(study_id)
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_params(trial_id, PARAMS, DISTRIBUTIONS, {"parameters": 10})
    with counted_statements(storage) as sent:
        storage.finish_trial(trial_id, TrialState.COMPLETE, [0.75], {"accuracy": 0.75})
    assert len(sent) == 1
    for view in (storage, reopened(storage)):
        trial = view.get_trial(trial_id)
        assert (trial.state, trial.values) == (TrialState.COMPLETE, [0.75])
        assert trial.user_attrs == {"parameters": 10, "accuracy": 0.75}
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        assert trial.datetime_start <= trial.datetime_complete
    with pytest.raises(UpdateFinishedTrialError):
        storage.finish_trial(trial_id, TrialState.FAIL, None, {})
    with pytest.raises(ValueError, match="cannot be finished with state RUNNING"):
        storage.finish_trial(trial_id, TrialState.RUNNING, None, {})


FORBID_FINISHING = {
    "sqlite": "CREATE TRIGGER no BEFORE UPDATE ON glorasearch_trials BEGIN SELECT RAISE(ABORT, 'no'); END",
    "postgresql": "ALTER TABLE glorasearch_trials ADD CONSTRAINT no CHECK (state <> 'complete')",
}


def test_a_trial_that_cannot_be_finished_stays_as_it_was(storage: TrialStorage, study_id: int) -> None:
    trial_id = storage.create_new_trial(study_id)
    with storage.database.write() as connection:
        connection.execute(text(FORBID_FINISHING[connection.dialect.name]))
    with pytest.raises(IntegrityError, match="no"):
        storage.finish_trial(trial_id, TrialState.COMPLETE, [1.0], {"accuracy": 1.0})
    for view in (storage, reopened(storage)):
        trial = view.get_trial(trial_id)
        assert (trial.state, trial.values, trial.user_attrs) == (TrialState.RUNNING, None, {})


def test_attributes_may_be_nan_and_infinite(storage: TrialStorage, study_id: int) -> None:
    trial_id = storage.create_new_trial(study_id)
    storage.finish_trial(trial_id, TrialState.FAIL, None, {"cross_entropy": math.nan, "seconds": math.inf})
    for view in (storage, reopened(storage)):
        attrs = view.get_trial(trial_id).user_attrs
        assert math.isnan(attrs["cross_entropy"])
        assert attrs["seconds"] == math.inf


def test_trials_are_made_with_their_parameters_in_one_transaction(storage: TrialStorage, study_id: int) -> None:
    storage.create_new_trial(study_id)
    params = [PARAMS | {"depth": depth} for depth in range(1, 8)]
    attrs = [{"digest": str(depth)} for depth in range(1, 8)]
    with counted_statements(storage) as sent:
        ids = storage.create_trials(study_id, 1, params, DISTRIBUTIONS, attrs)
    assert ids is not None
    assert sum(statement.startswith("INSERT INTO glorasearch_trials") for statement in sent) == 1
    for view in (storage, reopened(storage)):
        for number, trial_id in enumerate(ids, 1):
            trial = view.get_trial(trial_id)
            assert (trial.number, trial.state) == (number, TrialState.RUNNING)
            assert (trial.params, trial.user_attrs) == (params[number - 1], attrs[number - 1])
            assert trial.distributions == DISTRIBUTIONS
            assert trial.datetime_start is not None
    assert storage.create_trials(study_id, 3, params, DISTRIBUTIONS, attrs) is None
    assert storage.get_n_trials(study_id) == 8
    storage.finish_trial(ids[0], TrialState.COMPLETE, [0.5], {"more": 1})
    assert reopened(storage).get_trial(ids[0]).params == params[0]
    assert storage.create_trials(study_id, 8, params[:1], DISTRIBUTIONS, [{}]) == [ids[-1] + 1]
    with pytest.raises(ValueError, match="different distribution kind"):
        storage.create_trials(study_id, 9, [{"depth": 1.0}], {"depth": FloatDistribution(0, 1)}, [{}])
    with pytest.raises(KeyError):
        storage.create_trials(study_id + 1, 0, params, DISTRIBUTIONS, attrs)


@pytest.mark.parametrize(
    "sampler", [optuna.samplers.RandomSampler(0), optuna.samplers.TPESampler(seed=0, n_startup_trials=3)]
)
def test_a_study_makes_the_trials_that_it_makes_in_memory(storage: TrialStorage, sampler: Any) -> None:
    def trials_of(study: optuna.Study) -> list[dict[str, Any]]:
        for _ in range(8):
            trial = study.ask(DISTRIBUTIONS)
            study.tell(trial, float(trial.params["depth"]) + trial.params["rate"])
        return [trial.params | {"values": trial.values} for trial in study.get_trials()]

    state = pickle.dumps(sampler)
    ours = trials_of(optuna.create_study(storage=storage, sampler=pickle.loads(state), study_name="ours"))
    assert ours == trials_of(optuna.create_study(sampler=pickle.loads(state)))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    attrs=st.dictionaries(st.text(min_size=1), VALUES, max_size=4),
    params=st.fixed_dictionaries(
        {
            "gene": st.sampled_from(("none", "vector", "lora:8")),
            "real": st.floats(-1e300, 1e300),
            "whole": st.integers(-100, 100),
        }
    ),
    values=st.lists(st.floats(allow_nan=False), min_size=2, max_size=2),
    intermediate=st.dictionaries(st.integers(0, 10**6), st.floats(allow_nan=False)),
)
def test_what_is_put_in_comes_out(
    storage: TrialStorage,
    attrs: dict[str, Any],
    params: dict[str, Any],
    values: list[float],
    intermediate: dict[int, float],
) -> None:
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE])
    distributions: dict[str, BaseDistribution] = {
        "gene": CategoricalDistribution(("none", "vector", "lora:8")),
        "real": FloatDistribution(-1e300, 1e300),
        "whole": IntDistribution(-100, 100),
    }
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_params(trial_id, params, distributions, attrs)
    for step, value in intermediate.items():
        storage.set_trial_intermediate_value(trial_id, step, value)
    storage.finish_trial(trial_id, TrialState.COMPLETE, values, {})
    mine, read = storage.get_trial(trial_id), reopened(storage).get_trial(trial_id)
    assert mine == read
    assert (read.params, read.user_attrs, read.values) == (params, attrs, values)
    assert read.intermediate_values == intermediate
