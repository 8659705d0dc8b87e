"""The command line: help, exit codes, listings, and that errors are words on standard error."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glorasearch import __version__
from glorasearch.cli.main import COMMANDS, run
from glorasearch.db import RunState
from glorasearch.errors import GlorasearchError

Bench = Any
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls the command line in this process; gives exit code, standard output and standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments))
        written = capsys.readouterr()
        return code, written.out, written.err

    return call


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
        (["run"], "Missing argument 'CONFIG'"),
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
        (["backbone.name=local-dir:nowhere"], "backbone.name: no directory 'nowhere'"),
        (["backbone.checkpoint=nowhere.npz"], "backbone.checkpoint: no file 'nowhere.npz'"),
        (["backbone.args.img_szie=28"], "img_szie"),
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
    assert "error: training stopped " in err
    assert " step " in err
    assert "train.lr is 1e+30" in err
    assert "Traceback" not in err
    assert bench.record.state is RunState.FAILED
    code, out, _ = call("runs", "--workspace", str(bench.workspace), "--json")
    assert code == 0
    assert json.loads(out)[0]["error"].startswith("NonFiniteLossError: training stopped ")
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


def test_listings(undisturbed: Bench, call: Call) -> None:
    place = ["--workspace", str(undisturbed.workspace)]
    (listed,) = json.loads(call("runs", *place, "--json")[1])
    assert (listed["run"], listed["state"], listed["error"]) == ("tiny", "finished", None)
    assert (listed["backbone"], listed["task"], listed["space"]) == ("vit_tiny_patch16_224", "digits", "glora_medium")
    stages = ["train", "search", "refit", "baseline:lora", "test", "export", "report"]
    assert listed["stages"] == stages
    assert "tiny" in call("runs", *place)[1]

    shown = json.loads(call("show", "tiny", *place, "--json")[1])
    assert list(shown["stages"]) == stages
    assert shown["stages"]["report"] == undisturbed.report
    assert shown["config"]["train"]["steps"] == 80
    losses = [row for row in shown["metrics"] if (row["stage"], row["name"]) == ("train", "loss")]
    assert [row["step"] for row in losses] == list(range(5, 81, 5))
    text = call("show", "tiny", *place)[1]
    assert "run tiny: finished" in text
    assert "winner, refitted" in text
    assert "step 80: " in text


def test_looking_into_a_workspace_that_is_not_there_makes_none(tmp_path: Path, call: Call) -> None:
    place = tmp_path / "typo"

    assert call("runs", "--workspace", str(place), "--json")[:2] == (0, "[]\n")
    assert f"no runs in {place}" in call("runs", "--workspace", str(place))[1]
    code, out, err = call("show", "mine", "--workspace", str(place))
    assert (code, out) == (2, "")
    assert f"no run 'mine' in {place}; known are: none" in err
    code, _, err = call("dashboard", "--workspace", str(place))
    assert code == 2
    assert f"workspace {place} has no database yet; start a run" in err
    assert not place.exists()


def test_an_unknown_run_is_exit_2(undisturbed: Bench, call: Call) -> None:
    code, _, err = call("show", "tinny", "--workspace", str(undisturbed.workspace))

    assert code == 2
    assert "no run 'tinny'" in err
    assert "known are: tiny" in err


@pytest.mark.parametrize("more", [[], ["--all-layers"], ["--max", "100000"]])
def test_space(more: list[str], call: Call) -> None:
    code, out, _ = call("space", "glora_small", "--backbone", "vit_base_patch16_224", *more)

    assert code == 0
    assert "48 layers, 240 genes" in out
    described = json.loads(call("space", "glora_small", "--json", *more)[1])
    assert (len(described["layers"]), described["genes"]) == (48, 240)
    assert described["budget"]["max"] == (100_000 if "--max" in more else None)
    sizes = described["parameters"]
    assert 0 <= sizes["smallest"] < sizes["mean"] < sizes["largest"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no search space 'nothing'"),
        (["lora", "--backbone", "vit_nothing"], "backbone 'vit_nothing': timm has no such model"),
        (["lora", "--backbone", "local-dir:nowhere"], "backbone.name: no directory 'nowhere'"),
        (["glora_small", "--min", "999999999"], "the space reaches from"),
        (["glora_small", "--min", "9", "--max", "3"], "min 9 is above max 3"),
    ],
)
def test_wrong_spaces(arguments: list[str], message: str, call: Call) -> None:
    code, _, err = call("space", *arguments)

    assert code == 2
    assert message in err


def test_init_writes_a_run_file_once(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "new" / "my first run.toml"
    code, out, _ = call("init", str(path), "--backbone", "quickstart", "--data", "digits")
    assert code == 0
    assert f"wrote {path}" in out
    written = path.read_text()
    assert 'name = "my-first-run"' in written

    code, _, err = call("init", str(path))
    assert code == 2
    assert f"{path} already exists; give another path, or --force" in err
    assert path.read_text() == written
    assert call("init", str(path), "--force", "--backbone", "vit_tiny_patch16_224")[0] == 0
    assert path.read_text() != written
    code, _, err = call("init", str(path / "below.toml"))
    assert code == 2
    assert "cannot be written" in err


def test_what_init_writes_can_be_run(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "mine.toml"
    call("init", str(path), "--backbone", "vit_tiny_patch16_224", "--data", "digits", "--space", "lora")
    small = "{img_size=28, patch_size=14, embed_dim=24, depth=1, num_heads=2, in_chans=1}"
    overrides = ["backbone.pretrained=false", f"backbone.args={small}", "train.steps=1", "threads=1"]
    sets = [text for override in overrides for text in ("--set", override)]

    code, out, _ = call("train", str(path), "--workspace", str(tmp_path / "workspace"), "--quiet", "--json", *sets)

    assert code == 0
    assert json.loads(out)["steps"] == 1


def test_a_training_of_no_steps_is_valid_json(make_bench: Callable[..., Bench], call: Call) -> None:
    bench = make_bench("train.steps=0")

    code, out, _ = call(*bench.arguments("train", "--quiet", "--json"))

    assert code == 0
    assert json.loads(out)["loss"] is None


def test_every_error_has_an_exit_code() -> None:
    def below(error: type[GlorasearchError]) -> list[type[GlorasearchError]]:
        return [error, *(inner for child in error.__subclasses__() for inner in below(child))]

    assert {error.exit_code for error in below(GlorasearchError)} == {1, 2}
