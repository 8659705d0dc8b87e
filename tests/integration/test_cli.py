"""The command line: help, exit codes, and that errors are words on standard error."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glorasearch import __version__
from glorasearch.cli.main import COMMANDS
from glorasearch.db import RunState
from glorasearch.errors import GlorasearchError

Bench = Any
Call = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, call: Call) -> None:
    code, out, err = call(command, "--help")

    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: glorasearch {command} [OPTIONS]")
    assert out == call(command, "-h")[1]


def test_help_lists_every_command_and_imports_nothing() -> None:
    script = "import sys; from glorasearch.cli.main import run; code = run(['--help']); print(sorted(sys.modules))"
    written = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    help_text, _, modules = written.rpartition("\n[")

    assert all(f"  {command} " in help_text for command in COMMANDS)
    assert not {"torch", "timm", "optuna", "sqlalchemy", "ray", "pydantic"} & set(modules.strip("]\n").split("', '"))


def test_a_run_looks_for_no_compiler_before_it_needs_one() -> None:
    """torch does where it could build extensions, and tells of a CUDA compiler without a GPU."""
    script = "import sys, glorasearch.runs.pipeline; print('torch.utils.cpp_extension' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("False\n", "")


@pytest.mark.parametrize("command", ["run", "space", "show", "init"])
def test_help_of_a_command_needs_no_torch(command: str) -> None:
    script = (
        "import sys; from glorasearch.cli.main import run; "
        f"assert run([{command!r}, '--help']) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_version(call: Call) -> None:
    assert call("--version")[:2] == (0, f"glorasearch, version {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Usage: glorasearch"),
        (["rnu"], "No such command 'rnu'"),
        (["run"], "Missing argument 'CONFIG|RUN'"),
        (["run", "x.toml", "--werkspace", "y"], "No such option"),
        (["run", "x.toml", "--executor", "slurm"], "'slurm' is not one of 'local', 'ray'"),
        (["run", "x.toml", "--workers", "0"], "0 is not in the range"),
        (["dashboard", "--port", "70000"], "70000 is not in the range"),
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str], message: str, call: Call) -> None:
    code, out, err = call(*arguments)

    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["serach.trials=3"], "unknown key 'serach' (did you mean 'search'?)"),
        (["train.step=3"], "unknown key 'train.step' (did you mean 'steps'?)"),
        (["train.steps=many"], "key 'train.steps'"),
        (["search.trials"], "--set 'search.trials': expected section.key=value"),
        (["name=../elsewhere"], "key 'name'"),
        (["space.name=glora_huge"], "no search space 'glora_huge'"),
        (["space.min=10_000_000"], "the space reaches from 0 to 8,384"),
        (["space.min=9", "space.max=3"], "min 9 is above max 3"),
        (
            ["backbone.name=vit_tiny_patch17"],
            "backbone 'vit_tiny_patch17': timm has no such model; similar names: vit_tiny_patch16",
        ),
        (["backbone.name=qqq"], "timm has no such model; no similar name; timm.list_models() lists all"),
        (["backbone.name=local-dir:nowhere"], "backbone.name: no directory 'nowhere'"),
        (["backbone.checkpoint=nowhere.npz"], "checkpoint is 'nowhere.npz', but pretrained is false"),
        (
            ["backbone.checkpoint=nowhere.npz", "backbone.pretrained=true"],
            "backbone.checkpoint: no file 'nowhere.npz'",
        ),
        (["data.size=56"], "set img_size = 56 in backbone.args; or"),
        (["backbone.args.img_szie=28"], "img_szie"),
        (["backbone.args.global_pool="], "its output for 2 images is"),
        (['export.path="a\\u0000b"'], "key 'export.path': a text must not have the character NUL"),
        (["data.source=folder:nowhere"], "nowhere"),
        (["data.source=vtab:nowhere/caltech101"], "nowhere"),
        (["data.source=digitz"], "digitz"),
        (["data.train=1790"], "data"),
        (["device=tpu"], "device 'tpu' is not supported; use auto, cpu, cuda or cuda:<n>"),
        (["device=meta"], "device 'meta' is not supported"),
        (["device=cuda:99"], "device 'cuda:99': this machine has"),
        (["search.sampler=annealing"], "expected 'evolution', 'random', 'tpe' or 'nsga2', found 'annealing'"),
        (["search.parents=99"], "parents is 99"),
        (['report.baselines=["glora_medium"]'], "'glora_medium' has more than one subnet"),
        (['report.baselines=["nothing"]'], "no search space 'nothing'"),
    ],
)
def test_wrong_input_is_exit_2_and_starts_nothing(
    overrides: list[str], message: str, tiny_run_file: Path, tmp_path: Path, call: Call
) -> None:
    sets = [text for override in overrides for text in ("--set", override)]

    code, out, err = call("run", str(tiny_run_file), "--workspace", str(tmp_path), "--quiet", *sets)

    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert call("runs", "--workspace", str(tmp_path), "--json")[1] == "[]\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("[train\n", "not valid TOML"),
        ("", "key 'backbone' is missing"),
        ('[backbone]\nname = "x"\n[data]\n', "key 'data.source' is missing"),
        ('train = 3\n[backbone]\nname = "x"\n[data]\nsource = "digits"', "key 'train': expected a table"),
    ],
)
def test_a_run_file_that_cannot_be_used(content: str | None, message: str, tmp_path: Path, call: Call) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_text(content)

    code, _, err = call("train", str(path), "--workspace", str(tmp_path / "workspace"))

    assert code == 2
    assert f"{path}: {message}" in err
    assert not (tmp_path / "workspace").exists()


def test_a_non_finite_loss_is_exit_1_and_names_the_step(make_bench: Callable[..., Bench], call: Call) -> None:
    bench = make_bench("train.lr=1e30")

    code, out, err = call(*bench.arguments("run", "--quiet"))

    assert (code, out) == (1, "")
    assert "error: supernet: training stopped in step " in err
    assert "(lr is 1e+30)" in err
    assert "Its settings are in [train]" in err
    assert "Traceback" not in err
    assert bench.record.state is RunState.FAILED
    code, out, _ = call("runs", "--workspace", str(bench.workspace), "--json")
    assert code == 0
    assert json.loads(out)[0]["error"].startswith("NonFiniteLossError: supernet: training stopped ")
    assert "failed (NonFiniteLossError" in call("show", "tiny", "--workspace", str(bench.workspace))[1]
    assert call("show", "tiny", "--workspace", str(bench.workspace), "--json")[0] == 0


def test_a_workspace_that_cannot_be_made_is_exit_2(tiny_run_file: Path, call: Call) -> None:
    code, _, err = call("run", str(tiny_run_file), "--workspace", str(tiny_run_file / "workspace"))

    assert code == 2
    assert "Not a directory; choose another with --workspace" in err


@pytest.mark.parametrize(
    ("database", "code", "message"),
    [
        ("nonsense", 2, "is not a URL"),
        ("mysterydb://host/name", 2, "no driver"),
        ("sqlite:////nowhere/at/all.db", 2, "does not exist"),
    ],
)
def test_a_database_that_cannot_be_opened(
    database: str, code: int, message: str, tiny_run_file: Path, tmp_path: Path, call: Call
) -> None:
    found, _, err = call("run", str(tiny_run_file), "--workspace", str(tmp_path), "--database", database)

    assert found == code
    assert message in err


def test_a_database_of_its_own(make_bench: Callable[..., Bench], tmp_path: Path, call: Call) -> None:
    bench = make_bench("train.steps=2")
    place = ["--workspace", str(bench.workspace), "--database", f"sqlite:///{tmp_path / 'other.db'}"]

    assert call("train", str(bench.run_file), *place, "--quiet", "--set", "train.steps=2")[0] == 0

    assert not (bench.workspace / "glorasearch.db").exists()
    assert json.loads(call("runs", *place, "--json")[1])[0]["stages"] == ["train"]


def test_every_error_has_an_exit_code() -> None:
    def below(error: type[GlorasearchError]) -> list[type[GlorasearchError]]:
        return [error, *(inner for child in error.__subclasses__() for inner in below(child))]

    assert {error.exit_code for error in below(GlorasearchError)} == {1, 2}
