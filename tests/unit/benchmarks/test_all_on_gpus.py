"""Programs side by side on cards: order, limits, and how each ended. They are real ones that need no GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from support.processes import DEADLINE_SECONDS, is_alive

HEAD = """
import json, os, sys, time
from pathlib import Path
HERE = Path(__file__).parent
CARDS = os.environ["CUDA_VISIBLE_DEVICES"]
def keep(content):
    Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(content))
def wait_for(name):
    while not (HERE / name).exists():
        time.sleep(0.01)
"""
Benches = Callable[[str], ModuleType]


@pytest.fixture
def program(tmp_path: Path, benches: Benches) -> Callable[..., object]:
    """Makes one of a body, to be run with a limit."""

    def make(name: str, body: str, seconds: float = DEADLINE_SECONDS, cards: int = 1) -> object:
        path = tmp_path / f"{name}.py"
        path.write_text(HEAD + body)
        return benches("all_on_gpus").Program(str(path), seconds, cards)

    return make


@pytest.fixture
def board(tmp_path: Path, benches: Benches) -> object:
    (tmp_path / "out").mkdir()
    return benches("all_on_gpus").Board(["3", "5"], tmp_path / "out", lambda line: None)


def test_two_at_a_time_on_cards_of_their_own_and_one_on_both(
    board: object, program: Callable[..., object], tmp_path: Path
) -> None:
    """The first two wait for each other: they end only if they run at the same time."""
    given = {
        "a": program("a", "(HERE / 'a').touch(); wait_for('b'); keep(CARDS)"),
        "b": program("b", "(HERE / 'b').touch(); wait_for('a'); keep(CARDS)"),
        "both": program("both", "keep(CARDS)", cards=2),
        "bad": program("bad", "print('| why |'); sys.exit(1)"),
    }
    board.run(given, time.monotonic() + 2 * DEADLINE_SECONDS)  # type: ignore[attr-defined]
    assert board.ended == {"a": "done", "b": "done", "both": "done", "bad": "failed"}  # type: ignore[attr-defined]
    found = {name: (tmp_path / "out" / f"{name}.json").read_text() for name in ("a", "b", "both")}
    assert sorted((found["a"], found["b"])) == ['"3"', '"5"']
    assert found["both"] == '"3,5"'
    assert (tmp_path / "out" / "bad.log").read_text() == "| why |\n"


def test_one_that_is_over_its_limit_is_stopped_and_keeps_what_it_has(
    board: object, program: Callable[..., object], tmp_path: Path
) -> None:
    endless = program("endless", "keep(os.getpid()); wait_for('never')", seconds=10.0)
    late = program("late", "keep(1)", seconds=3 * DEADLINE_SECONDS)
    board.run({"endless": endless, "late": late}, time.monotonic() + DEADLINE_SECONDS)  # type: ignore[attr-defined]
    assert board.ended == {"endless": "stopped", "late": "not started"}  # type: ignore[attr-defined]
    assert not is_alive(int((tmp_path / "out" / "endless.json").read_text()))
    board.run({"late": late}, time.monotonic() + DEADLINE_SECONDS, cut=True)  # type: ignore[attr-defined]
    assert board.ended["late"] == "done", "it was asked for"  # type: ignore[attr-defined]


def test_every_program_is_there(benches: Benches) -> None:
    bench = benches("all_on_gpus")
    for program in bench.PROGRAMS.values():
        assert (bench.HERE / program.command.split()[0]).is_file()
