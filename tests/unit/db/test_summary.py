import math
from datetime import datetime
from pathlib import Path

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from glorasearch.db import SummarisingStorage, TrialStorage
from glorasearch.db.summary import StudySummary, round_up
from glorasearch.errors import DatabaseError

A = CategoricalDistribution(("none", "vector", "lora:2", "lora:6"))
E = CategoricalDistribution(("none", "constant"))
DISTRIBUTIONS: dict[str, BaseDistribution] = {"one.A": A, "two.A": A, "one.E": E, "rate": FloatDistribution(0, 1)}


def trial(params: dict[str, object], **attrs: object) -> FrozenTrial:
    now = datetime(2024, 1, 1)
    used = {name: DISTRIBUTIONS[name] for name in params}
    return FrozenTrial(0, TrialState.COMPLETE, 1.0, now, now, params, used, attrs, {"note": 1}, {}, 7)


def test_a_summary_has_shares_mean_rank_and_parameters() -> None:
    summary = StudySummary(DISTRIBUTIONS, most_parameters=100)
    params: dict[str, object] = {"one.A": "lora:2", "two.A": "lora:6", "one.E": "constant", "rate": 0.5}
    result = summary.summarise(trial(params, parameters=42, accuracy=0.5, origin="evaluated", subnet="digest"))
    assert result.params == {
        "A: share of lora": 1.0,
        "A: share of none": 0.0,
        "A: share of vector": 0.0,
        "E: share of constant": 1.0,
        "E: share of none": 0.0,
        "mean rank": 4.0,
        "parameters": 42.0,
        "rate": 0.5,
    }
    assert result.user_attrs == {"accuracy": 0.5, "origin": "evaluated"}
    assert result.distributions.keys() == result.params.keys()
    assert result.distributions["mean rank"] == FloatDistribution(0, 6)
    assert result.distributions["parameters"] == FloatDistribution(0, 100)
    assert (result.number, result.value, result._trial_id) == (0, 1.0, 7)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0.13708451714366673, 0.137), (5 / 6, 0.833), (3.14159e-7, 3.14e-7), (73_728.0, 73_728.0), (0.0, 0.0),
     (math.inf, math.inf), (-2.34567, -2.35)],
)  # fmt: skip
def test_fractions_have_three_digits(number: float, expected: float) -> None:
    attrs = {"tempered": number, "start": "lora everywhere"}
    kept = StudySummary(DISTRIBUTIONS, most_parameters=1).summarise(trial({"one.A": "vector"}, **attrs)).user_attrs
    assert kept == {"tempered": expected, "start": "lora everywhere"}


def test_objectives_have_four_digits_and_the_trial_stays_as_it_was() -> None:
    full = trial({"one.A": "vector", "two.A": "none"}, parameters=1)
    full.values = [0.10518191169947386, 73_728.0]
    summary = StudySummary(DISTRIBUTIONS, most_parameters=1).summarise(full)
    assert summary.values == [0.1052, 73_728.0]
    assert full.values == [0.10518191169947386, 73_728.0]


def test_a_trial_that_was_stopped_early_shows_its_bound() -> None:
    stopped = trial(
        {"one.A": "vector"}, parameters=1, bound=0.7, stopped_after=20, seen_accuracy=0.1, seen_cross_entropy=3.0
    )
    kept = StudySummary(DISTRIBUTIONS, most_parameters=1).summarise(stopped).user_attrs
    assert kept == {"bound": 0.7, "stopped_after": 20}, (
        "scores of the hardest images alone are not to be compared with others"
    )


def test_without_a_parameter_count_or_a_rank_there_is_none() -> None:
    result = StudySummary(DISTRIBUTIONS, most_parameters=1).summarise(trial({"one.A": "vector", "two.A": "none"}))
    assert (result.params["A: share of vector"], result.params["mean rank"]) == (0.5, 0.0)
    assert "parameters" not in result.params
    assert "parameters" not in result.distributions


def test_a_study_of_something_else_stays_as_it_is() -> None:
    distributions: dict[str, BaseDistribution] = {
        "rate": FloatDistribution(0, 1),
        "x.A": CategoricalDistribution((1, "odd")),
    }
    params = {"rate": 0.5, "x.A": "odd"}
    other = FrozenTrial(0, TrialState.COMPLETE, 1.0, None, None, params, distributions, {}, {}, {}, 0)
    assert StudySummary(distributions, 1).summarise(other).params == params


def test_choice_classes_that_are_not_known_here_count_by_their_names() -> None:
    """The dashboard does not import the choice classes of the studies that it shows, so their ranks are unknown."""
    distributions: dict[str, BaseDistribution] = {
        "one.B": CategoricalDistribution(("none", "lora:2", "from-outside:16")),
        "two.B": CategoricalDistribution(("from-outside:16:3", "from-outside:8:3")),
    }
    params = {"one.B": "from-outside:16", "two.B": "from-outside:8:3"}
    other = FrozenTrial(0, TrialState.COMPLETE, 1.0, None, None, params, distributions, {}, {}, {}, 0)
    summary = StudySummary(distributions, 1).summarise(other).params
    assert summary == {
        "B: share of from-outside": 1.0,
        "B: share of lora": 0.0,
        "B: share of none": 0.0,
        "mean rank": 0.0,
    }


@pytest.mark.parametrize(
    ("counts", "expected"), [([], 1), ([0], 1), ([7], 7), ([12, 882_116], 900_000), ([100_000], 100_000)]
)
def test_the_range_of_parameters_is_round(counts: list[float], expected: float) -> None:
    assert round_up(counts) == expected


def test_the_view_follows_a_growing_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/trials.db"
    storage = TrialStorage(url)
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE])
    view = SummarisingStorage(url)
    assert view.get_all_trials(study_id) == []

    def finish(params: dict[str, str], parameters: int) -> None:
        trial_id = storage.create_new_trial(study_id)
        assert trial_id not in {trial._trial_id for trial in view.get_all_trials(study_id)}
        assert view.get_trial(trial_id).params == {}
        storage.set_trial_params(trial_id, params, DISTRIBUTIONS, {"parameters": parameters})
        assert view.get_all_trials(study_id)[-1].params["parameters"] == parameters
        storage.finish_trial(trial_id, TrialState.COMPLETE, [1.0], {"accuracy": 1.0})

    finish({"one.A": "lora:2", "two.A": "none", "one.E": "none"}, 10)
    (first,) = view.get_all_trials(study_id, deepcopy=False)
    assert first.params["A: share of lora"] == 0.5
    finish({"one.A": "vector", "two.A": "none", "one.E": "none"}, 5)
    trials = view.get_all_trials(study_id, deepcopy=False)
    assert trials[0] is first
    finish({"one.A": "vector", "two.A": "none", "one.E": "none"}, 5_000)
    ranges = {trial.distributions["parameters"] for trial in view.get_all_trials(study_id)}
    assert ranges == {FloatDistribution(0, 5_000)}
    assert view.get_trial(trials[1]._trial_id).params["parameters"] == 5
    assert view.get_best_trial(study_id).params["A: share of lora"] == 0.5
    assert view.get_n_trials(study_id, TrialState.COMPLETE) == 3
    with pytest.raises(KeyError):
        view.get_trial(99)


def test_the_view_refuses_every_write(tmp_path: Path) -> None:
    storage = TrialStorage(f"sqlite:///{tmp_path}/trials.db")
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "study")
    trial_id = storage.create_new_trial(study_id)
    view = SummarisingStorage(storage.database)
    for write in (
        lambda: view.create_new_study([StudyDirection.MAXIMIZE]),
        lambda: view.delete_study(study_id),
        lambda: view.create_new_trial(study_id),
        lambda: view.set_trial_user_attr(trial_id, "key", 1),
        lambda: view.finish_trial(trial_id, TrialState.FAIL, None, {}),
        lambda: view.set_study_system_attr(study_id, "key", 1),
    ):
        with pytest.raises(DatabaseError, match="read-only"):
            write()
    assert storage.get_trial(trial_id).state == TrialState.RUNNING
