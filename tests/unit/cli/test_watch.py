"""`glorasearch watch`: real processes that see a run through its database alone, while it goes on."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest

from glorasearch.cli.main import run as command_line
from glorasearch.cli.watch_view import watch_view
from glorasearch.db import ForecastStore, RunState, RunStore, StageProgress, StageState, WorkerRecord, WorkerStore
from glorasearch.plain_console import PlainConsole
from glorasearch.quantities import about
from glorasearch.runs.live_progress import LiveProgress
from glorasearch.runs.progress import Silent
from glorasearch.runs.watched import Watched

CONFIG = {
    "backbone": {"name": "vit_tiny_patch16_224"},
    "data": {"source": "digits"},
    "space": {"name": "lean"},
    "train": {"lr": "auto"},
    "race": {"enabled": False},
    "report": {"baselines": ["lora"]},
}
COMMAND = [sys.executable, "-m", "glorasearch", "watch"]


class UnderWay:
    """A run that this process works on, in its train stage, at step 40 of 100."""

    def __init__(self, url: str, held: ExitStack) -> None:
        self.url = url
        self.runs = RunStore(url)
        self.runs.create("earlier", CONFIG, "")
        self.runs.create("tiny", CONFIG, "")
        self._lock, self._stage = held.enter_context(ExitStack()), held.enter_context(ExitStack())
        self._lock.enter_context(self.runs.lock("tiny"))
        self.runs.set_state("tiny", RunState.RUNNING)
        progress = LiveProgress(Silent(), self.runs, "tiny", interval=0)
        with progress.stage("pilot"), progress.stage("rate:0.01"), progress.task("pilot 1 of 1", 10) as advance:
            advance(10, "loss 2.1")
        self._stage.enter_context(progress.stage("train"))
        self.advance = self._stage.enter_context(progress.task("supernet", 100))
        for step in (20, 40):
            self.advance(step, "loss 0.532")

    def end(self, state: RunState = RunState.FINISHED, error: str | None = None) -> None:
        """End its stage and the run."""
        self._stage.close()
        self.runs.set_state("tiny", state, error=error)
        self._lock.close()


@pytest.fixture
def under_way(database_url: str) -> Iterator[UnderWay]:
    with ExitStack() as held:
        run = UnderWay(database_url, held)
        yield run
    run.runs.database.close()


@pytest.fixture
def watch(under_way: UnderWay, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `glorasearch watch` in an empty folder, as on another machine: it has the database's URL, and no more."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "elsewhere").mkdir()

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [*COMMAND, *arguments, "--database", under_way.url, "--every", "0.1"]
        process = subprocess.Popen(command, cwd=tmp_path / "elsewhere", stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_lines_where_there_is_no_terminal_until_the_run_ends(
    under_way: UnderWay, watch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = watch()
    assert process.stdout is not None
    assert process.stdout.readline().startswith(f"run tiny: running by process {os.getpid()} on ")
    lines = [process.stdout.readline() for _ in range(3)]
    assert lines[0].startswith("pilot: finished, ")
    assert lines[1].startswith("rate:0.01: finished, 10/10 steps, ")
    assert re.fullmatch(r"train: running, 40/100 steps, .* left, .* steps/s, loss 0.532\n", lines[2])
    under_way.end(RunState.FAILED, "RunError: out of memory")
    rest, _ = process.communicate(timeout=60)
    assert re.match(r"train: finished, 40/100 steps, .*\nrun tiny: failed, began ", rest)
    assert "out of memory" in rest
    assert process.returncode == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_object_a_line_whenever_something_changes(
    under_way: UnderWay, watch: Callable[..., subprocess.Popen[str]]
) -> None:
    process = watch("tiny", "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert (first["run"], first["state"], first["under_way"]) == ("tiny", "running", True)
    stages = {stage["stage"]: stage for stage in first["stages"]}
    assert list(stages) == [
        "pilot", "rate:0.01", "train", "search", "refit", "baseline:lora", "test", "export", "report",
    ]  # fmt: skip
    train = stages["train"]
    assert (train["state"], train["done"], train["total"], train["unit"]) == ("running", 40, 100, "steps")
    assert train["per_second"] > 0
    assert train["seconds_left"] == pytest.approx(60 / train["per_second"])
    assert stages["search"] == {"stage": "search", "state": "waiting"}
    under_way.advance(70, "loss 0.5")
    assert {one["stage"]: one for one in json.loads(process.stdout.readline())["stages"]}["train"]["done"] == 70
    under_way.end()
    rest, _ = process.communicate(timeout=60)
    assert json.loads(rest.splitlines()[-1])["state"] == "finished"
    assert process.returncode == 0


def read_until(master: int, wanted: str) -> str:
    """What a terminal shows up to a text, or to the end of the process."""
    found = b""
    while wanted.encode() not in found:
        try:
            piece = os.read(master, 65_536)
        except OSError:  # the process has ended
            break
        found += piece
    return found.decode()


@pytest.mark.parametrize("columns", [100, 36])
def test_a_terminal_is_redrawn_and_left_as_it_was(under_way: UnderWay, columns: int) -> None:
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "LINES")}
    process = subprocess.Popen(
        [*COMMAND, "tiny", "--database", under_way.url, "--every", "0.1"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=variables | {"TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(terminal)
    shown = read_until(master, "loss 0.532")
    assert "40/100 steps" in shown
    assert "40 %" in shown
    under_way.advance(80, "loss 0.4")
    shown = read_until(master, "loss 0.4")
    assert "80/100 steps" in shown
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "").splitlines()
    assert max(map(len, lines)) <= columns
    process.send_signal(signal.SIGINT)
    rest = read_until(master, "nothing more")
    assert process.wait(60) == 0
    assert rest.endswith("\x1b[?25h")
    assert "interrupted" not in rest
    os.close(master)


def test_once_shows_it_and_ends(under_way: UnderWay, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["watch", "--once", "--database", under_way.url]
    assert command_line(arguments) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "digits, vit_tiny_patch16_224, lean" in shown
    assert re.search(r"train +40/100 steps, .* left, .* steps/s", shown)
    assert "export" in shown
    assert command_line([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "tiny"


def test_the_time_that_is_left_is_the_run_s(under_way: UnderWay, capsys: pytest.CaptureFixture[str]) -> None:
    ForecastStore(under_way.url).record(
        "tiny", {"pilot": 500.0, "train": 4_000.0, "search": 100.0, "refit": 50.0, "baseline": 20.0, "test": 10.0}
    )
    found = Watched.read(under_way.runs, "tiny")
    train = next(one for one in found.stages if one.stage == "train").progress
    assert train is not None
    assert train.rate is not None
    assert found.seconds_left == pytest.approx(60 / train.rate + 180)  # the pilot is over, train counts for itself
    assert command_line(["watch", "--once", "--database", under_way.url]) == 0
    said = " ".join(capsys.readouterr().out.split())  # the line is folded where host and process have long names
    assert re.search(r"began [0-9]+ s ago, at most about 3 min left", said)
    now = datetime.now(UTC)
    under_way.runs.set_progress(
        "tiny", StageProgress(stage="train", state=StageState.FINISHED, started=now, updated=now, done=100, total=100)
    )
    began = now - timedelta(seconds=30)
    row = StageProgress(
        stage="refit", state=StageState.RUNNING, started=began, updated=now, done=1, total=2, first_at=now
    )
    under_way.runs.set_progress("tiny", row)
    left = Watched.read(under_way.runs, "tiny").seconds_left
    assert left == pytest.approx(100 + (50 - 30) + 20 + 10)  # of the refit what is left of its forecast
    under_way.runs.set_progress("tiny", replace(row, state=StageState.FINISHED))
    search = replace(row, stage="search", started=now - timedelta(seconds=10), done=50, total=100)
    under_way.runs.set_progress("tiny", replace(search, first_at=now - timedelta(seconds=10)))
    left = Watched.read(under_way.runs, "tiny").seconds_left
    assert left == pytest.approx((100 - 10) + 20 + 10)  # its trials take 10 s more, and then come the random subnets
    under_way.end()
    assert Watched.read(under_way.runs, "tiny").seconds_left is None


def test_a_run_of_many_stages_fits_a_low_screen(under_way: UnderWay) -> None:
    began = datetime.now(UTC) - timedelta(hours=1)
    for number in range(40):
        row = StageProgress(stage=f"rate:{number}", state=StageState.FINISHED, started=began, updated=began)
        under_way.runs.set_progress("tiny", row)
    found = Watched.read(under_way.runs, "tiny")
    for height in (16, 24):
        console = PlainConsole(file=StringIO(), width=80, height=height)
        console.print(watch_view(found, console, fit=True))
        shown = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert height - 6 < len(shown) < height
        assert any("train" in line for line in shown)
        assert any(re.fullmatch(r" +[0-9]+ before *", line) for line in shown)


def test_a_run_in_the_list_is_at_its_stage(under_way: UnderWay, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["runs", "--database", under_way.url]) == 0
    assert re.search(r"tiny +- +running +[0-9]+ s +train 40 % +digits", capsys.readouterr().out)
    assert command_line(["runs", "--json", "--database", under_way.url]) == 0
    found = {run["run"]: run["under_way"] for run in json.loads(capsys.readouterr().out)}
    assert found == {"earlier": None, "tiny": {"stage": "train", "done": 40, "total": 100}}


def test_who_evaluates_is_said_while_it_searches(under_way: UnderWay, capsys: pytest.CaptureFixture[str]) -> None:
    began = datetime.now(UTC) - timedelta(seconds=10)
    row = StageProgress(
        stage="search", state=StageState.RUNNING, started=datetime.now(UTC), updated=datetime.now(UTC), done=9, total=20
    )
    under_way.runs.set_progress("tiny", row)
    workers = [
        WorkerRecord(
            number=number, host=host, process=7, ready=bool(host), tasks=5, busy=5.0, since=began,
            updated=began + timedelta(seconds=10),
        )
        for number, host in enumerate(("gpu1", "gpu1", "gpu2", ""))
    ]  # fmt: skip
    WorkerStore(under_way.url).record("tiny", workers)
    assert command_line(["watch", "--once", "--database", under_way.url]) == 0
    assert "3 of 4 workers, 50 % of their time busy, on gpu1 (2), gpu2" in capsys.readouterr().out
    assert command_line(["watch", "--once", "--json", "--database", under_way.url]) == 0
    found = json.loads(capsys.readouterr().out)["workers"]
    assert [(one["host"], one["ready"], one["share"]) for one in found][2:] == [("gpu2", True, 0.5), ("", False, 0.5)]


def test_what_cannot_be_watched_is_refused(
    under_way: UnderWay, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command_line(["watch", "tiney", "--database", under_way.url]) == 2
    assert "there is no run 'tiney' (did you mean 'tiny'?); known are: earlier, tiny" in capsys.readouterr().err
    under_way.end()
    assert command_line(["watch", "--database", under_way.url]) == 2
    assert "no run is under way here; name one of those that were: tiny, earlier" in capsys.readouterr().err
    assert command_line(["watch", "--workspace", str(tmp_path / "none")]) == 2
    assert "has no database yet" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_formats_come_after_the_stages(under_way: UnderWay) -> None:
    under_way.runs.set_stage("tiny", "format:onnx", {})
    found = [one.stage for one in Watched.read(under_way.runs, "tiny").stages if one.state != "waiting"]
    assert found == ["pilot", "rate:0.01", "train", "format:onnx"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(4.5e-05, "0 s"), (0.0123, "0.01 s"), (0.5, "0.5 s"), (8.214, "8.21 s"), (66.2, "66 s"), (1_020, "17 min")],
)
def test_times_are_written_as_people_say_them(seconds: float, said: str) -> None:
    assert about(seconds) == said
