"""Whatever is raised becomes words, in one place."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import click
import pytest

from glorasearch.cli import main
from glorasearch.cli.faults import report
from glorasearch.errors import ConfigError, RunError, reason
from glorasearch.runs.config import run_name


@pytest.fixture(autouse=True)
def _tracebacks_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (ConfigError("key 'x': found 3"), "error: key 'x': found 3\n", 2),
        (RunError("at https://u:hidden@h/x"), "error: at https://***@h/x\n", 1),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            "error: /data/x: No space left on device; free",
            1,
        ),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/a"), "error: /a: File name too long; choose a shorter", 2),
        (MemoryError(), "error: not enough memory (MemoryError); make train.batch_size", 1),
        (RecursionError("maximum recursion depth exceeded"), "error: something is nested too deeply (maximum", 1),
        (SystemExit(0), "error: SystemExit, as sys.exit(0) does, is raised outside; nothing is finished", 1),
        (ValueError("host=h password=hidden"), "error: glorasearch failed where it should not: ValueError: host=h", 1),
        (click.UsageError("no such option: \x1b[2J"), "error: no such option: \\x1b[2J\n", 2),
    ],
)
def test_every_exception_is_an_error_in_words(
    error: BaseException, said: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert "hidden" not in err
    assert "Traceback" not in err


def test_the_traceback_of_a_fault_is_kept_without_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("postgresql://u:hidden@h/x")
    except ValueError as error:
        report(error)
    said = capsys.readouterr().err
    text = Path(said.rpartition("The traceback is in ")[2].strip()).read_text("utf-8")
    assert text.startswith("Traceback")
    assert "postgresql://u:***@h/x" in text


def test_the_whole_message_of_a_library_is_kept() -> None:
    torch_says = 'Error(s) in loading state_dict for Model:\n\tMissing key(s) in state_dict: "cls".\n\tsize mismatch: 3'
    assert reason(RuntimeError(torch_says)).endswith('Missing key(s) in state_dict: "cls". size mismatch: 3')
    assert reason(KeyError("num_classes")) == "KeyError: 'num_classes'"
    assert reason(AssertionError()) == "AssertionError"
    long = reason(ValueError("first " + "x" * 5_000 + " last"))
    assert long.startswith("first xx")
    assert long.endswith("x last")
    assert len(long) < 700


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "--database", "postgresql://me:hidden@h:port/x"],
        ["runs", "--database", "postgresql:/me:hidden@h/x"],
        ["runs", "--database", "postgresql://me:hid den@[::1/x?sslpassword=hidden"],
        ["runs", "--database", "nonsense://me:hidden@h/x"],
        ["show", "x", "--database", "sqlite:////no/such/folder/x.db?password=hidden"],
        ["quickstart", "--store", "no-such-scheme://me:hidden@h/x"],
        ["quickstart", "--store", "github://me:hidden@h/x"],
        ["runs", "postgresql://me:hidden@h/x"],
        ["run", "https://me:hidden@h/x.toml"],
        ["quickstart", "--set", "https://me:hidden@h/x"],
        ["status", "--address", "http://me:hidden@127.0.0.1:1"],
        ["status", "--address", "me:hidden@127.0.0.1:1"],
        ["status", "--address", "http://127.0.0.1:1/?token=hidden"],
        ["space", "https://me:hidden@h/x"],
        ["space", "lean", "--backbone", "https://me:hidden@h/x"],
        ["runs", "--database", "sqlite:///x.db?timeout=x&password=hidden"],
    ],
)
def test_no_command_says_a_credential(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(arguments) in (1, 2)
    out, err = capfd.readouterr()
    assert "error: " in err
    assert "hidden" not in out + err
    assert "den@" not in out + err
    assert "Traceback" not in err
    assert "where it should not" not in err


def test_neither_do_logs_and_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import logging, warnings\n"
        "from glorasearch.cli.logs import make_plain\n"
        "make_plain()\n"
        "logging.getLogger('lib').warning('to %s \\x1b[2J', 'https://u:hidden@h')\n"
        "try: raise ValueError('token at ftp://u:hidden@h')\n"
        "except ValueError: logging.getLogger('lib').exception('failed')\n"
        "warnings.warn('s3://u:hidden@b')\n"
        "print('caf\\udce9')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "hidden" not in done.stderr
    assert "to https://***@h \\x1b[2J" in done.stderr
    assert "ftp://***@h" in done.stderr
    assert "s3://***@b" in done.stderr
    assert done.stdout == "caf\\udce9\n"
    assert logging.getLogRecordFactory() is not None
    assert warnings.formatwarning is not None


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (
            ["run", "a.toml", "--database", "postgresql://u:hid den@h/x", "--store=s3://hidden:hidden@b/x"],
            ["run", "a.toml", "--database", "postgresql://u:***@h/x", "--store=s3://***@b/x"],
        ),
        (["runs", "--database=host=h password=hidden"], ["runs", "--database=host=h password=***"]),
        (["status", "--address", "http://u:hidden@h:8265"], ["status", "--address", "http://***@h:8265"]),
        (["run", "--address=u:hidden@h:6379"], ["run", "--address=***@h:6379"]),
        (["run", "--set", "data.root=https://u:hidden@h/x"], ["run", "--set", "data.root=https://***@h/x"]),
        (["run", "--set=backbone.args.api_key=hidden"], ["run", "--set=backbone.args.api_key=***"]),
        (["show", "https://u:hidden@h/x"], ["show", "https://***@h/x"]),
        (
            ["run", "a.toml", "--set", "x=1", "--", "--database", "y"],
            ["run", "a.toml", "--set", "x=1", "--", "--database", "y"],
        ),
    ],
)
def test_credentials_are_not_among_the_arguments_of_the_process(arguments: list[str], shown: list[str]) -> None:
    """The process starts itself again without them, and reads them from its environment."""
    code = (
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "from glorasearch.cli.secret_arguments import hide_secrets\n"
        "found = hide_secrets()\n"
        "line = Path('/proc/self/cmdline').read_text().split(chr(0))\n"
        "print(json.dumps([line, sys.argv[1:], found, [n for n in os.environ if 'ARGUMENTS' in n]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    line, argv, found, left = json.loads(done.stdout)
    assert "hidden" not in "".join([*line, *argv])
    assert argv == shown
    assert found == (None if shown == arguments else arguments)
    assert not left


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quickstart", "--workspace", "caf\udce9"], "argument 'caf\\udce9' has bytes that are not UTF-8"),
        (["init", "caf\udce9.toml"], "argument 'caf\\udce9.toml' has bytes that are not UTF-8"),
        (["runs", "--database", "sqlite:///x.db?timeout=x"], "could not convert string to float: 'x'; are the options"),
        (["quickstart", "--store", "://x"], "--store ://x: it has no scheme; allowed are a path and"),
        (["space", "a" * 300], "has 300 bytes; a name of a file or folder has at most 255"),
        (["run", "my run.toml", "--set", "train.steps=-1"], "key 'train.steps': expected at least"),
    ],
)
def test_wrong_arguments_are_refused_in_words(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my run.toml").write_text('[backbone]\nname = "x"\n[data]\nsource = "digits"\n')
    assert main.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")
    assert said in err
    assert "name'" not in err


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("my run.toml", "my-run"),
        ("Vögel à l’eau.toml", "Vogel-a-l-eau"),
        ("x.toml", "x"),
        ("..toml", "run"),
        ("日本.toml", "run"),
        ("-a+b.toml", "a-b"),
    ],
)
def test_a_run_has_the_name_of_its_file_as_far_as_that_is_a_name(file: str, name: str) -> None:
    assert run_name(Path(file)) == name
