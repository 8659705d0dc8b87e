"""The driver of the GPU tests on small test files of its own, which need no GPU: order, lanes, verdicts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.processes import DEADLINE_SECONDS, environment, is_alive, wait_until

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "test_gpu.py"
SETTINGS = """
[tool.pytest.ini_options]
addopts = "-q --strict-markers --import-mode=importlib -m 'not slow and not gpu'"
markers = ["slow: x", "gpu: x", "two_gpus: x"]
"""
HEAD = """
import os, signal, time
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
CARDS = os.environ.get("CUDA_VISIBLE_DEVICES")

def wait_for(name):
    deadline = time.monotonic() + 200
    while not (ROOT / name).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    return tmp_path


def put(checkout: Path, name: str, *tests: str, head: str = HEAD) -> None:
    """A test file; each test is the body of a function, with `two` or `plain` before it where it is not of one GPU."""
    parts = [head]
    for number, test in enumerate(tests):
        kind, _, body = test.partition(": ")
        marks = {"one": ["gpu"], "two": ["gpu", "two_gpus"], "plain": []}[kind]
        parts += [f"@pytest.mark.{mark}" for mark in marks] + [f"def test_{number}():", f"    {body}", ""]
    (checkout / "tests" / f"test_{name}.py").write_text("\n".join(parts))


def command(checkout: Path, *options: str) -> list[str]:
    places = ["--root", str(checkout), "--out", str(checkout / "out"), "--json", str(checkout / "verdicts.json")]
    return [sys.executable, str(SCRIPT), *places, "--seconds", str(checkout / "before.json"), *options]


def run(checkout: Path, *options: str) -> tuple[int, str, dict[str, str]]:
    """Exit status, what was printed, and verdict by test."""
    done = subprocess.run(
        command(checkout, *options), env=environment(), capture_output=True, text=True, check=False,
        timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr, verdicts(checkout)


def verdicts(checkout: Path) -> dict[str, str]:
    path = checkout / "verdicts.json"
    tests = json.loads(path.read_text())["tests"] if path.exists() else []
    return {one["test"].removeprefix("tests/test_").replace(".py::test_", " "): one["verdict"] for one in tests}


def record(checkout: Path) -> list[dict[str, Any]]:
    path = checkout / "out" / "record.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_each_has_a_verdict_and_a_process_that_dies_takes_one_test_with_it(checkout: Path) -> None:
    put(checkout, "good", "one: assert CARDS == '7'", "plain: assert False", "one: pytest.skip('for a reason')")
    put(checkout, "bad", "one: assert 1 == 2, 'the numbers differ'", "one: pass")
    put(checkout, "dies", "one: pass", "one: os.kill(os.getpid(), signal.SIGKILL)", "one: pass")
    put(checkout, "two", "two: pass")
    put(checkout, "broken", "one: pass", head="import pytest, nobody_has_this")
    put(checkout, "other", "plain: assert False")
    code, said, found = run(checkout, "--cards", "7")
    assert found == {
        "good 0": "passed", "good 2": "skipped", "bad 0": "failed", "bad 1": "passed", "dies 0": "passed",
        "dies 1": "died", "dies 2": "passed", "two 0": "skipped", "broken.py": "failed",
    }  # fmt: skip
    assert code == 1
    assert "failed: tests/test_bad.py::test_0" in said
    assert "died: tests/test_dies.py::test_1: its process ended with -9 in the middle of it" in said
    assert "skipped: tests/test_two.py::test_0: needs 2 cards, there is 1" in said
    assert "skipped: tests/test_good.py::test_2: Skipped: for a reason" in said
    assert "No module named 'nobody_has_this'" in said
    assert "6 of 9 tests passed or said why they do not run here" in said
    assert "the numbers differ" in (checkout / "out" / "output.log").read_text()
    lines = record(checkout)
    assert {line["event"] for line in lines if line["test"] == "tests/test_bad.py::test_0"} == {
        "found", "begun", "ended"
    }  # fmt: skip


def test_cards_work_side_by_side_and_both_for_what_needs_two(checkout: Path) -> None:
    """Each of two files waits for the other, so they end only if they run at the same time, on cards of their own."""
    for own, other in ("ab", "ba"):
        put(checkout, own, f"one: (ROOT / '{own}').write_text(CARDS), wait_for('{other}')")
    put(checkout, "mixed", "two: (ROOT / 'two').write_text(CARDS)", "one: (ROOT / 'one').write_text(CARDS)")
    code, said, found = run(checkout, "--cards", "3,5", "--per-card", "1")
    assert (code, set(found.values())) == (0, {"passed"}), said
    assert {(checkout / name).read_text() for name in "ab"} == {"3", "5"}
    assert (checkout / "two").read_text() == "3,5"
    assert (checkout / "one").read_text() in ("3", "5")
    assert "tests/test_mixed.py (2 cards) on 3,5: exit 0" in said


def took(checkout: Path, **seconds: float) -> None:
    """An earlier run's seconds of the first test of each file."""
    tests = [{"test": f"tests/test_{name}.py::test_0", "seconds": each} for name, each in seconds.items()]
    (checkout / "before.json").write_text(json.dumps({"tests": tests}))


def test_where_not_all_fit_the_shortest_come_first_and_what_needs_two_cards_last(checkout: Path) -> None:
    for name, tests in (("a", 1), ("b", 3), ("c", 2), ("d", 1)):
        put(checkout, name, *["one: pass"] * tests)
    put(checkout, "e", "two: pass")
    took(checkout, a=900.0, d=1.0)
    code, said, _ = run(checkout, "--cards", "0,1", "--per-card", "1")
    assert code == 0, said
    begun = [line["test"].split("_")[1][0] for line in record(checkout) if line["event"] == "begun"]
    assert begun[-1] == "e"
    assert set(begun[:3]) == {"d", "c"}
    (checkout / "tests" / "test_e.py").unlink()
    assert run(checkout, "--cards", "0", "--per-card", "1")[0] == 0
    begun = [line["test"].split("_")[1][0] for line in record(checkout) if line["event"] == "begun"]
    assert "".join(begun) == "dccbbba"
    took(checkout, a=90.0, d=1.0)
    assert run(checkout, "--cards", "0", "--per-card", "1")[0] == 0
    begun = [line["test"].split("_")[1][0] for line in record(checkout) if line["event"] == "begun"]
    assert "".join(begun) == "abbbccd", "where all fit, the longest"


def test_a_run_that_is_cut_off_says_what_it_did_not_reach_and_ends_what_it_started(checkout: Path) -> None:
    put(checkout, "a", "one: pass")
    put(checkout, "b", "one: (ROOT / 'pid').write_text(str(os.getpid())), wait_for('never')", "one: pass")
    put(checkout, "c", *["one: pass"] * 3)
    took(checkout, c=900.0)
    pid = checkout / "pid"
    driver = subprocess.Popen(
        command(checkout, "--cards", "0", "--per-card", "1"), env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        # Written, and not only opened.
        wait_until(lambda: pid.exists() and pid.read_text() != "", "a test that waits for ever")
        driver.send_signal(signal.SIGTERM)
        said, _ = driver.communicate(timeout=DEADLINE_SECONDS)
    finally:
        driver.kill()
        driver.wait()
    assert driver.returncode == 3
    assert verdicts(checkout) == {
        "a 0": "passed", "b 0": "cut off", "b 1": "not reached",
        "c 0": "not reached", "c 1": "not reached", "c 2": "not reached",
    }  # fmt: skip
    assert "cut off: tests/test_b.py::test_0" in said
    assert "not reached: tests/test_c.py::test_2" in said
    assert not is_alive(int(pid.read_text()))


def test_when_the_time_is_up_nothing_is_begun(checkout: Path) -> None:
    put(checkout, "a", "one: pass")
    code, said, found = run(checkout, "--cards", "0", "--minutes", "0.0001")
    assert (code, found["a 0"]) in ((3, "not reached"), (3, "cut off"))
    assert "the time was up: --minutes 0.0001" in said


def test_what_cannot_be_run_is_refused(checkout: Path) -> None:
    put(checkout, "a", "plain: pass")
    code, said, _ = run(checkout, "--cards", "0")
    assert (code, "no test is marked gpu" in said) == (2, True)
    code, said, _ = run(checkout, "--cards", "0", "--per-card", "0")
    assert code == 2
    assert "--minutes and --per-card are above 0" in said
