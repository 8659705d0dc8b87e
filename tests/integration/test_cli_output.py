"""What the commands print and write: listings, search spaces, run files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Bench = Any
Call = Callable[..., tuple[int, str, str]]


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--space", "glora_huge"], "no search space 'glora_huge'"),
        (["--data", "folder:nowhere"], "--data folder:nowhere: no folder 'nowhere'"),
        (["--backbone", ""], "key 'backbone.name': expected a string that is not empty"),
    ],
)
def test_init_writes_no_file_that_cannot_be_run(options: list[str], message: str, tmp_path: Path, call: Call) -> None:
    path = tmp_path / "new" / "mine.toml"

    code, out, err = call("init", str(path), *options)

    assert code == 2
    assert message in err
    assert "wrote" not in out
    assert not path.parent.exists()


def test_init_finds_a_folder_beside_the_file(tmp_path: Path, call: Call) -> None:
    (tmp_path / "flowers").mkdir()
    assert call("init", str(tmp_path / "mine.toml"), "--data", "folder:./flowers")[0] == 0
    assert call("init", str(tmp_path / "sweep.toml"), "--data", "folder:./images-of-{task}")[0] == 0


def test_what_init_writes_can_be_run(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "mine.toml"
    call("init", str(path), "--backbone", "vit_tiny_patch16_224", "--data", "digits", "--space", "lora")
    small = "{img_size=28, patch_size=14, embed_dim=24, depth=1, num_heads=2, in_chans=1}"
    overrides = ["backbone.pretrained=false", f"backbone.args={small}", "train.steps=1", "train.lr=1e-3", "threads=1"]
    sets = [text for override in overrides for text in ("--set", override)]

    code, out, _ = call("train", str(path), "--workspace", str(tmp_path / "workspace"), "--quiet", "--json", *sets)

    assert code == 0
    assert json.loads(out)["steps"] == 1


def test_a_training_of_no_steps_is_valid_json(make_bench: Callable[..., Bench], call: Call) -> None:
    bench = make_bench("train.steps=0")

    code, out, _ = call(*bench.arguments("train", "--quiet", "--json"))

    assert code == 0
    assert (json.loads(out)["steps"], json.loads(out)["loss"]) == (0, None)


def test_a_reader_that_has_gone_is_no_fault(undisturbed: Bench) -> None:
    command = [sys.executable, "-m", "glorasearch", "curves", "tiny", "--csv", *undisturbed.place]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
