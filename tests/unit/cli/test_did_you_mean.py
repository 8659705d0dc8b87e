"""Names that are not known are answered with the nearest one, and the first line comes before anything slow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glorasearch.cli.main import run
from glorasearch.db import RunStore
from glorasearch.runs.workspace import Workspace

RUN_FILE = '[backbone]\nname = "vit_tiny_patch16_224"\n[data]\nsource = "digits"\n'
BEFORE = """
import sys
from glorasearch.cli import run_commands

def first(text, err):
    print(err, text, sorted({"torch", "pydantic", "sqlalchemy"} & set(sys.modules)))
    raise SystemExit

run_commands.say = first
from glorasearch.cli.main import group
group.main(args=sys.argv[1:], standalone_mode=False)
"""


WATCHED = """
import sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise SystemExit("torch is imported")

sys.meta_path.insert(0, Watch())
from glorasearch.cli.main import group
group.main(args=sys.argv[1:], standalone_mode=False)
"""


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """A workspace with a run."""
    RunStore(Workspace.open(tmp_path / "runs").database).create("flowers", {}, "0")
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "No such command 'rnu' (did you mean 'run'?)."),
        (["compere", "a"], "No such command 'compere' (did you mean 'compare'?)."),
        (["xyzzy"], "No such command 'xyzzy'."),
        (["show", "flowrs"], "no run 'flowrs' (did you mean 'flowers'?) in "),
        (["compare", "flowers", "xyzzy"], "no run 'xyzzy' in "),
        (["space", "glora_medum"], "no search space 'glora_medum' (did you mean 'glora_medium'?): it is neither"),
        (["train", "x.toml", "--set", "trials=3"], "unknown key 'trials' (did you mean 'search.trials'?)"),
        (["train", "x.toml", "--set", "lr=3"], "unknown key 'lr' (did you mean 'train.lr' or 'refit.lr'?)"),
        (["train", "x.toml", "--set", "train.stepz=3"], "unknown key 'train.stepz' (did you mean 'steps'?)"),
        (["train", "x.toml", "--set", "xyzzy=3"], "unknown key 'xyzzy'; allowed are"),
        (["train", "mine.tomel"], "'mine.tomel' is no run file (did you mean 'mine.toml'?), and there is no run "),
        (["train", "mien.toml"], "mien.toml: cannot be read: No such file or directory (did you mean 'mine.toml'?)"),
        (["train", "xyzzy.toml"], "xyzzy.toml: cannot be read: No such file or directory\n"),
    ],
)
def test_what_is_not_known(
    arguments: list[str],
    message: str,
    flowers: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(flowers)
    for name in ("x.toml", "mine.toml"):
        Path(name).write_text(RUN_FILE)
    place = ["--workspace", "."] if arguments[0] in ("show", "compare", "train") else []

    assert run([*arguments, *place]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [["run", "mine.toml"], ["search", "mine.toml"], ["quickstart"]])
def test_the_first_line_comes_before_anything_slow_is_imported(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", BEFORE, *command], capture_output=True, text=True, check=True)

    what = "mine.toml" if len(command) > 1 else "the shipped run file"
    assert done.stdout.startswith("True glorasearch ")
    assert done.stdout.endswith(f": {what} []\n")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["predict", "exported", "one.png"], "exported model in exported: loading torch and timm"),
        (
            ["space", "lean", "--backbone", "local-dir:exported"],
            "local-dir:exported: loading torch and timm, to build it",
        ),
    ],
)
def test_torch_is_announced_before_it_is_imported(command: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "config.json").write_text('{"glorasearch": {}}')
    (tmp_path / "one.png").touch()
    done = subprocess.run([sys.executable, "-c", WATCHED, *command], capture_output=True, text=True, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [said, "torch is imported"]
