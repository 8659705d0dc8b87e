"""Worker processes of the suite: parallel, surviving failures and deaths, interrupted in time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from suite_parts.units import Unit
from suite_parts.work import Outcome, Place, perform
from support.suite_workers import make

CPU = [Place(0, None, 1)]


def units(*arms: str) -> list[Unit]:
    return [Unit("task", number, arm) for number, arm in enumerate(arms)]


def do(work: list[Unit], places: list[Place], folder: Path, deadline: float | None = None) -> Outcome:
    return perform(work, places, partial(make, folder), deadline=deadline, on_change=lambda done, running: None)


def test_all_units_in_two_places(tmp_path: Path) -> None:
    work = units(*"abcdef")
    outcome = do(work, [Place(0, "3", 1), Place(1, "5", 1)], tmp_path)
    assert sorted(outcome.finished) == work
    assert (outcome.failed, outcome.left) == ({}, [])
    said = [(tmp_path / unit.name).read_text().split() for unit in work]
    assert {(number, gpu) for _, number, gpu in said} == {("0", "3"), ("1", "5")}
    assert len({process for process, _, _ in said}) == 2


def test_a_failure_or_death_ends_one_unit_only(tmp_path: Path) -> None:
    work = units("a", "fails", "b", "dies", "c")
    outcome = do(work, CPU, tmp_path)
    assert [unit.arm for unit in outcome.finished] == ["a", "b", "c"]
    assert "task-1-fails went wrong" in outcome.failed[work[1]]
    assert outcome.failed[work[3]] == "its process ended with code 7"


def test_what_another_process_does_is_left_to_it(tmp_path: Path) -> None:
    work = units("a", "elsewhere", "b")
    outcome = do(work, CPU, tmp_path)
    assert [unit.arm for unit in outcome.finished] == ["a", "b"]
    assert (outcome.elsewhere, outcome.failed, outcome.through) == ([work[1]], {}, 3)


def test_what_waits_for_another_unit_comes_again_after_it(tmp_path: Path) -> None:
    work = units("waits", "a", "b")
    outcome = do(work, CPU, tmp_path)
    assert [unit.arm for unit in outcome.finished] == ["a", "b", "waits"]
    assert outcome.elsewhere == []


def test_wrong_input_is_said_without_a_traceback(tmp_path: Path) -> None:
    work = units("unfit")
    assert do(work, CPU, tmp_path).failed == {work[0]: "task-0-unfit: expected something else"}


def test_a_unit_says_how_far_it_is(tmp_path: Path) -> None:
    shown: list[str] = []
    work = units("tells")

    def show(through: int, running: Sequence[str]) -> None:
        shown.extend(running)
        if "task-0-tells (half of it)" in running:
            (tmp_path / "heard").touch()

    perform(work, CPU, partial(make, tmp_path), deadline=None, on_change=show)
    assert "task-0-tells (half of it)" in shown


def test_the_deadline_interrupts_as_ctrl_c_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that an hour passes on as soon as the unit without an end has begun."""
    begun = tmp_path / "waiting"
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * begun.exists())
    monkeypatch.setattr("suite_parts.work.time", clock)
    work = units("a", "forever", "b")
    outcome = do(work, CPU, tmp_path, deadline=time.monotonic() + 3600)
    assert (outcome.finished, outcome.left) == (work[:1], work[1:])
    assert (tmp_path / "cleaned").exists()
