"""What is written of a run, beside what an earlier one has left."""

from __future__ import annotations

from gpu_tests.record import Verdict
from gpu_tests.tables import to_json


def test_of_a_traceback_what_was_raised_and_where_is_kept() -> None:
    said = "def f():\n    x = 1\n>   g(x)\nE   TypeError: no\nE   at all\n\nfile.py:3: TypeError"
    kept = Verdict(test="a", verdict="failed", message=said).to_dict()["message"]
    assert kept == "E   TypeError: no\nE   at all\nfile.py:3: TypeError"
    assert Verdict(test="a", verdict="died", message="by itself").to_dict()["message"] == "by itself"


def test_a_verdict_stays_until_a_later_run_gives_another() -> None:
    first = to_json([Verdict(test="a", verdict="passed", seconds=2.0), Verdict(test="b", verdict="cut off")], 9, ["0"])
    now = [Verdict(test=name, verdict="not reached") for name in "abc"]
    second = to_json(now, 9, ["0"], first)
    assert second["tests"] == [
        {"test": "a", "verdict": "passed", "seconds": 2.0, "date": first["date"], "gpu": first["machine"]["gpu"]},
        {"test": "b", "verdict": "not reached"},
        {"test": "c", "verdict": "not reached"},
    ]
    third = to_json([Verdict(test="a", verdict="failed", message="no"), *now[1:]], 9, ["0"], second)
    assert third["tests"][0] == {"test": "a", "verdict": "failed", "message": "no"}
    fourth = to_json(now, 9, ["0"], second)
    assert fourth["tests"][0]["date"] == first["date"], "of the run that gave it, not of the last one"


def test_a_run_of_some_files_leaves_the_verdicts_of_the_others() -> None:
    first = to_json([Verdict(test=name, verdict="passed") for name in ("a::1", "a::2", "b::1")], 9, ["0"])
    now = [Verdict(test="a::1", verdict="failed", message="no")]
    whole, some = to_json(now, 9, ["0"], first), to_json(now, 9, ["0"], first, some=True)
    assert [test["test"] for test in whole["tests"]] == ["a::1"], "the others are no more"
    assert [(test["test"], test["verdict"]) for test in some["tests"]] == [("a::1", "failed"), ("b::1", "passed")]
