"""What a plugin raises is its fault, and never an end with rc 0; what a person's signal raises is a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glorasearch.errors import EvaluationError
from glorasearch.interrupts import Interrupted, is_interrupt
from glorasearch.space import EvaluationResult, EvaluationTask, evaluate_safely

CHOICE = """
import os, signal, sys
from glorasearch.choices import Choice, Contribution, Part

class Ends(Choice):
    name = "ends"
    tensors = "B"
    arguments = ("rank",)

    @classmethod
    def parts(cls, site, **largest):
        {parts}
        return {{"ends_line": Part((site.rows,))}}

    @classmethod
    def contribution(cls, parts, base, site):
        {contribution}
        return Contribution(bias_shift=parts["ends_line"])

{module}
"""
SPACE = """
plugins = ["{name}:Ends"]
[layers]
include = ["*blocks.*"]
[choices]
B = ["none", "ends:1"]
"""


def outcome(folder: Path, **code: str) -> tuple[int, str]:
    """Exit code and standard error of `glorasearch space` with a plugin that does that."""
    name = "ends_plugin"
    (folder / f"{name}.py").write_text(CHOICE.format(**{"module": "", "parts": "", "contribution": ""} | code))
    (folder / "ends.toml").write_text(SPACE.format(name=name))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    command = [sys.executable, "-m", "glorasearch", "space", str(folder / "ends.toml")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("sys.exit(0)", "SystemExit, as sys.exit(0) does"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise type('Own', (BaseException,), {})('of its own')", "Own: of its own"),
        ("raise ValueError('x' * 10**7)", "ValueError: " + "x" * 400),
    ],
)
def test_a_module_that_ends_the_process_is_refused(tmp_path: Path, code: str, said: str) -> None:
    code_, error = outcome(tmp_path, module=code)
    assert code_ == 2
    assert f"plugin 'ends_plugin:Ends' cannot be imported: its module raises {said}" in error
    assert len(error) < 2_000


@pytest.mark.parametrize(
    "code",
    [
        "sys.exit(0)",
        "raise KeyboardInterrupt",
        "1 / 0",
        "import click; raise click.exceptions.Exit(0)",
        "raise type('Own', (BaseException,), {})('of its own')",
        "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()",
    ],
)
def test_a_method_that_ends_the_process_is_named_with_its_place(tmp_path: Path, code: str) -> None:
    code_, error = outcome(tmp_path, parts=code)
    assert code_ == 1
    assert "error: choice 'ends' of plugin module ends_plugin raises" in error
    assert f"{tmp_path}/ends_plugin.py, line 12, in parts" in error


@pytest.mark.parametrize("place", ["module", "parts"])
def test_os_exit_is_said_and_is_no_success(tmp_path: Path, place: str) -> None:
    code, error = outcome(tmp_path, **{place: "os._exit(0)"})
    assert code == 1
    assert f"error: os._exit(0) ends the process ({tmp_path}/ends_plugin.py, line " in error


def test_a_fork_ends_as_it_wants(tmp_path: Path) -> None:
    code, error = outcome(tmp_path, module="os.fork() or os._exit(0)")
    assert (code, error) == (0, "")


def test_ctrl_c_while_a_plugin_works_stops_the_command(tmp_path: Path) -> None:
    code, error = outcome(tmp_path, module="os.kill(os.getpid(), signal.SIGINT)")
    assert code == 130
    assert error.endswith("interrupted\n"), "of a command that does not go on where it was"


@pytest.mark.parametrize(("name", "code", "said"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_a_signal_is_one_also_where_other_code_raises_its_own_interrupt(
    tmp_path: Path, name: str, code: int, said: str
) -> None:
    """As Ray does in C."""
    lines = (f"try: os.kill(os.getpid(), signal.{name})", "except KeyboardInterrupt: raise KeyboardInterrupt from None")
    found, error = outcome(tmp_path, parts="\n        ".join(lines))
    assert (found, error.endswith(f"{said}\n")) == (code, True)


def test_sys_exit_in_a_candidate_is_its_failure_and_ctrl_c_is_not() -> None:
    task = EvaluationTask("{}", "digest", "weights")

    def leave(task: EvaluationTask) -> EvaluationResult:
        raise SystemExit(0)

    def stop(task: EvaluationTask) -> EvaluationResult:
        raise KeyboardInterrupt

    def fail(task: EvaluationTask) -> EvaluationResult:
        raise EvaluationError("not this one")

    assert evaluate_safely(leave, task).error == "SystemExit: 0"
    assert evaluate_safely(fail, task).error == "not this one"
    with pytest.raises(KeyboardInterrupt):
        evaluate_safely(stop, task)


def test_without_handlers_of_ours_every_keyboard_interrupt_is_one() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert is_interrupt(KeyboardInterrupt())
    assert is_interrupt(Interrupted())
    assert not is_interrupt(SystemExit(0))
