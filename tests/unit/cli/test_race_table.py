"""The ranking of a race as people read it."""

import pytest
from support.stage_results import RACE_SUMMARY, candidate, report

from glorasearch.cli.race_table import print_race
from glorasearch.cli.report_table import print_report
from glorasearch.runs.results import RaceSummary


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def race(*candidates: dict[str, object]) -> RaceSummary:
    return RaceSummary.from_json(RACE_SUMMARY | {"candidates": list(candidates)})


def test_a_fixed_method_that_won_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report(race=RACE_SUMMARY, winner={"name": "lora", "kind": "method", "trial": None}))
    text = capsys.readouterr().out
    assert "winner, lora at 0.003, refitted" in text
    assert "best of the search, inherited weights" in text
    assert "10 trainings, 4,000 steps in 4 s of training" in text
    print_race(RaceSummary.from_json(RACE_SUMMARY))
    assert capsys.readouterr().out.endswith(
        "lora at 0.003 won the race with 75.0 % out of fold; the best subnet of the run's own space, trial 3 at "
        "0.003, is -25.0 points from it.\n"
    )


def test_a_named_point_is_of_the_runs_own_space(capsys: pytest.CaptureFixture[str]) -> None:
    named, searched = candidate("lora:8 everywhere", "named", 0.625), candidate("trial 3", "searched", 0.5)
    print_race(race(candidate("lora", "method", 0.75), named, searched))
    own = "the best subnet of the run's own space, lora:8 everywhere at 0.003, is -12.5 points from it"
    assert own in capsys.readouterr().out
    print_race(race(named, candidate("lora", "method", 0.5), searched))
    assert "the best fixed method, lora at 0.003, is -12.5 points from it" in capsys.readouterr().out


def test_a_candidate_that_was_left_behind_is_compared_on_the_folds_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    first = candidate("trial 3", "searched", 0.75)
    first["scores"][0] |= {"accuracy": 0.7}
    behind = candidate("lora", "method", 0.5)
    behind["scores"] = behind["scores"][:1]
    print_race(race(first, behind))
    text = capsys.readouterr().out
    assert "the best fixed method, lora at 0.003, is -20.0 points from it, judged on 2 folds" in text
    assert "2 folds" in text.splitlines()[2]


def test_the_best_of_either_kind_is_shown_however_far_behind(capsys: pytest.CaptureFixture[str]) -> None:
    methods = [candidate(f"m{number}", "method", 0.75) for number in range(14)]
    print_race(race(*methods, candidate("trial 9", "searched", 0.25), candidate("trial 8", "searched", 0.125)))
    text = capsys.readouterr().out
    assert "trial 9" in text
    assert "m13" not in text
    assert "trial 8" not in text
    assert "; 3 more candidates with --json" in text


def test_a_race_without_rivals_has_a_winner_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_race(race(candidate("lora", "method", 0.75)))
    assert "lora at 0.003 won the race with 75.0 % out of fold.\n" in capsys.readouterr().out


def test_a_training_that_diverged_has_no_temperature(capsys: pytest.CaptureFixture[str]) -> None:
    bad = candidate("lora", "method", 0.0)
    bad["scores"] = [score | {"tempered": None, "beta": None} for score in bad["scores"]]
    print_race(race(candidate("trial 3", "searched", 0.5), bad))
    assert "diverged" in capsys.readouterr().out


@pytest.mark.parametrize(("judge", "said"), [("accuracy", "accuracy"), ("tempered", "tempered cross-entropy")])
def test_what_judges_is_named_in_words(judge: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_race(RaceSummary.from_json(RACE_SUMMARY | {"judge": judge}))
    assert capsys.readouterr().out.splitlines()[0].rstrip() == f"race: accuracy out of fold, judged by {said}"


@pytest.mark.parametrize(("columns", "spent"), [(80, False), (120, True)])
def test_a_narrow_terminal_shows_who_raced_before_what_it_took(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, spent: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_race(race(candidate("lora:8 everywhere", "named", 0.75), candidate("linear_probe", "method", 0.5)))
    text = capsys.readouterr().out
    assert "lora:8 everywhere at 0.003 │" in text
    assert ("steps ┃" in text) is spent
