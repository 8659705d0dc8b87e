"""What `TrialStorage` reads and keeps of a study: whole, in outlines, counted, from its cache."""

import copy
import pickle

import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from support.trial_storage import DISTRIBUTIONS, PARAMS, counted_statements, reopened

from glorasearch.db import TrialStorage


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
