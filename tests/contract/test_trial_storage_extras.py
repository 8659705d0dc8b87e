"""What `TrialStorage` promises beyond Optuna's contract: whole trials at once, several processes."""

import copy
import math
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from glorasearch.db import TrialStorage

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "blocks.0.attn.qkv.B": CategoricalDistribution(("none", "constant", "vector", "lora:8")),
    "blocks.0.attn.qkv.A": CategoricalDistribution(("none", "lora:8")),
    "rate": FloatDistribution(1e-5, 1.0, log=True),
    "depth": IntDistribution(1, 12),
}
PARAMS = {"blocks.0.attn.qkv.B": "vector", "blocks.0.attn.qkv.A": "lora:8", "rate": 0.1, "depth": 3}


@pytest.fixture
def storage(database_url: str) -> Iterator[TrialStorage]:
    storage = TrialStorage(database_url)
    yield storage
    storage.database.close()


@pytest.fixture
def study_id(storage: TrialStorage) -> int:
    return storage.create_new_study([StudyDirection.MAXIMIZE], "study")


def reopened(storage: TrialStorage) -> TrialStorage:
    """The same database, as another process sees it."""
    return TrialStorage(storage.database.url)


@contextmanager
def counted_statements(storage: TrialStorage) -> Iterator[list[str]]:
    """The statements that change something, as they are sent."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "INSERT INTO receipts")):
            sent.append(statement)

    event.listen(storage.database.engine, "before_cursor_execute", note)
    yield sent
    event.remove(storage.database.engine, "before_cursor_execute", note)


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
        assert connection.execute(text("SELECT count(*) FROM distributions")).scalar() == len(DISTRIBUTIONS)


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
    "sqlite": "CREATE TRIGGER no BEFORE UPDATE ON trials BEGIN SELECT RAISE(ABORT, 'no'); END",
    "postgresql": "ALTER TABLE trials ADD CONSTRAINT no CHECK (state <> 'complete')",
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


def test_finished_trials_are_read_once(storage: TrialStorage, study_id: int) -> None:
    for _ in range(3):
        storage.finish_trial(storage.create_new_trial(study_id), TrialState.COMPLETE, [1.0], {})
    view = reopened(storage)
    first = view.get_all_trials(study_id, deepcopy=False)
    trial_id = storage.create_new_trial(study_id)
    second = view.get_all_trials(study_id, deepcopy=False)
    assert [trial.number for trial in second] == [0, 1, 2, 3]
    assert all(a is b for a, b in zip(first, second, strict=False))
    with counted_statements(view) as sent:
        assert view.get_trial(first[0]._trial_id) is first[0]
    assert sent == []
    storage.set_trial_user_attr(trial_id, "key", 1)
    assert view.get_all_trials(study_id)[3].user_attrs == {"key": 1}
    assert second[3].user_attrs == {}


def test_trials_are_made_with_their_parameters_in_one_transaction(storage: TrialStorage, study_id: int) -> None:
    storage.create_new_trial(study_id)
    params = [PARAMS | {"depth": depth} for depth in range(1, 8)]
    attrs = [{"digest": str(depth)} for depth in range(1, 8)]
    with counted_statements(storage) as sent:
        ids = storage.create_trials(study_id, 1, params, DISTRIBUTIONS, attrs)
    assert ids is not None
    assert sum(statement.startswith("INSERT INTO trials") for statement in sent) == 1
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


def test_a_study_can_be_gone_through_without_the_parameters_of_finished_trials(
    storage: TrialStorage, study_id: int
) -> None:
    storage.create_trials(study_id, 0, [PARAMS] * 6, DISTRIBUTIONS, [{"n": number} for number in range(6)])
    whole = storage.get_all_trials(study_id)
    for number in (0, 2, 3):
        storage.finish_trial(whole[number]._trial_id, TrialState.COMPLETE, [number], {})
    whole = storage.get_all_trials(study_id)
    for view in (storage, reopened(storage)):
        outlines = list(view.outlines(study_id))
        for trial, outline in zip(whole, outlines, strict=True):
            assert (outline.number, outline.state, outline.values) == (trial.number, trial.state, trial.values)
            assert (outline.user_attrs, outline._trial_id) == (trial.user_attrs, trial._trial_id)
            assert outline.params == ({} if trial.state.is_finished() else PARAMS)
    with pytest.raises(KeyError):
        list(storage.outlines(study_id + 1))


def test_trials_are_counted(storage: TrialStorage, study_id: int) -> None:
    ids = storage.create_trials(study_id, 0, [PARAMS] * 5, DISTRIBUTIONS, [{}] * 5)
    assert ids is not None
    storage.finish_trial(ids[1], TrialState.COMPLETE, [1.0], {})
    storage.finish_trial(ids[2], TrialState.FAIL, None, {})
    assert storage.get_n_trials(study_id) == 5
    assert storage.get_n_trials(study_id, TrialState.RUNNING) == 3
    assert storage.get_n_trials(study_id, (TrialState.COMPLETE, TrialState.FAIL)) == 2
    with pytest.raises(KeyError):
        storage.get_n_trials(study_id + 1)


def test_a_finished_trial_is_equal_to_a_plain_one_and_copied_as_such(storage: TrialStorage, study_id: int) -> None:
    ranges = DISTRIBUTIONS | {"rate": FloatDistribution(1e-5, 2.0, log=True)}
    for distributions in (DISTRIBUTIONS, ranges):
        trial_id = storage.create_new_trial(study_id)
        storage.set_trial_params(trial_id, PARAMS, distributions, {"list": [1]})
        before = storage.get_trial(trial_id)
        storage.finish_trial(trial_id, TrialState.COMPLETE, [0.5], {})
        trial, other = storage.get_trial(trial_id), reopened(storage).get_trial(trial_id)
        plain = [copy.copy(trial), copy.deepcopy(trial), pickle.loads(pickle.dumps(trial))]
        assert all(type(one) is FrozenTrial for one in plain)
        assert all(one == trial and trial == one and one == other for one in plain)
        assert trial == other != before != trial
        assert (trial.params, trial.distributions) == (PARAMS, distributions)
        assert list(trial.params) == list(PARAMS)
        assert repr(trial) == repr(plain[0])
        plain[1].params = {}
        plain[1].user_attrs["list"].append(2)
        assert plain[1] != trial == other
        with pytest.raises(AttributeError, match="has finished, so its parameters cannot be set"):
            trial.params = {}


def test_who_only_writes_keeps_no_finished_trials_and_still_lists_them_all(
    storage: TrialStorage, study_id: int
) -> None:
    ids = storage.create_trials(study_id, 0, [PARAMS] * 30, DISTRIBUTIONS, [{}] * 30)
    assert ids is not None
    for trial_id in ids[::2]:
        storage.finish_trial(trial_id, TrialState.COMPLETE, [1.0], {})
    with counted_statements(storage) as sent:
        assert storage.get_trial(ids[0]).state == TrialState.COMPLETE
    assert len(sent) == 1, "it has to be read"
    for listed in range(2):
        trials = storage.get_all_trials(study_id, deepcopy=False)
        assert [trial.number for trial in trials] == list(range(30))
        assert [trial.state.is_finished() for trial in trials] == [n % 2 == 0 or n < listed * 10 for n in range(30)]
        for trial_id in ids[1:10:2]:
            if not listed:
                storage.finish_trial(trial_id, TrialState.COMPLETE, [1.0], {})
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_user_attr(ids[0], "key", 1)


def test_a_writer_that_was_overtaken_loses_nothing(storage: TrialStorage, study_id: int) -> None:
    other = reopened(storage)
    trial_id = storage.create_new_trial(study_id)
    other.get_trial(trial_id)
    storage.set_trial_user_attr(trial_id, "a", 1)
    other.set_trial_user_attr(trial_id, "b", 2)
    storage.set_trial_param(trial_id, "depth", 3, DISTRIBUTIONS["depth"])
    assert other.get_trial(trial_id).user_attrs == {"a": 1, "b": 2}
    other.finish_trial(trial_id, TrialState.COMPLETE, [1.0], {})
    assert other.get_trial(trial_id).params == {"depth": 3}
    with pytest.raises(UpdateFinishedTrialError, match="trial 0 has finished"):
        storage.set_trial_user_attr(trial_id, "a", 3)


def test_one_of_two_takes_a_waiting_trial(storage: TrialStorage, study_id: int) -> None:
    trial_id = storage.create_new_trial(study_id, optuna.trial.create_trial(state=TrialState.WAITING))
    other = reopened(storage)
    other.get_all_trials(study_id)
    assert storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert not other.set_trial_state_values(trial_id, TrialState.RUNNING)


def test_a_study_deleted_by_another_process_is_gone(storage: TrialStorage, study_id: int) -> None:
    other = reopened(storage)
    storage.finish_trial(storage.create_new_trial(study_id), TrialState.COMPLETE, [1.0], {})
    assert len(other.get_all_trials(study_id)) == 1
    storage.delete_study(study_id)
    with pytest.raises(KeyError, match="no study with id"):
        other.get_all_trials(study_id)


def test_forked_processes_share_one_study(storage: TrialStorage, study_id: int) -> None:
    def work(seed: int) -> None:
        for index in range(15):
            trial_id = storage.create_new_trial(study_id)
            storage.set_trial_params(
                trial_id, PARAMS | {f"own.{seed}": 0.5}, DISTRIBUTIONS | {f"own.{seed}": FloatDistribution(0, 1)}
            )
            storage.finish_trial(trial_id, TrialState.COMPLETE, [0.5], {"seed": seed})
            storage.set_study_user_attr(study_id, f"{seed}", index)

    processes = [multiprocessing.get_context("fork").Process(target=work, args=(seed,)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    trials = storage.get_all_trials(study_id)
    assert [trial.number for trial in trials] == list(range(45))
    assert all(trial.params == PARAMS | {f"own.{trial.user_attrs['seed']}": 0.5} for trial in trials)
    assert storage.get_study_user_attrs(study_id) == {"0": 14, "1": 14, "2": 14}


def test_a_pickled_storage_works_in_a_fresh_process(storage: TrialStorage, study_id: int) -> None:
    script = (
        "import pickle, sys\n"
        "storage = pickle.loads(sys.stdin.buffer.read())\n"
        f"storage.set_trial_user_attr(storage.create_new_trial({study_id}), 'from', 'afar')"
    )
    subprocess.run([sys.executable, "-c", script], input=pickle.dumps(storage), check=True)
    assert [trial.user_attrs for trial in storage.get_all_trials(study_id)] == [{"from": "afar"}]


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
