"""A study that several processes, or several storages of one process, work on."""

import multiprocessing
import pickle
import subprocess
import sys

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from support.trial_storage import DISTRIBUTIONS, PARAMS, reopened

from glorasearch.db import TrialStorage


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
