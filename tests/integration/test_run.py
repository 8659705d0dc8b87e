"""The whole job at a tiny size: the report and the files, single stages, what is refused, what is made again."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.cli.main import run as command_line
from glorasearch.data import DataConfig, InputSpec, load_splits
from glorasearch.db import RunState, RunStore, TrialStorage

Bench = Any
MakeBench = Callable[..., Bench]

SCORE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("glorasearch", "workers", "dashboards"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocker())
import timm, torch
from safetensors.torch import load_file

model = timm.create_model("local-dir:" + sys.argv[1], pretrained=True).eval()
split = load_file(sys.argv[2])
with torch.no_grad():
    print(float((model(split["images"]).argmax(-1) == split["labels"]).float().mean()))
"""
WITHOUT_TORCH = """
import sys
from glorasearch.cli.main import run

code = run(sys.argv[1:])
assert "torch" not in sys.modules, "torch was imported"
sys.exit(code)
"""


@pytest.fixture
def copied(make_bench: MakeBench, undisturbed: Bench, tmp_path: Path) -> Bench:
    """The finished run in a workspace that a test may change."""
    shutil.copytree(undisturbed.workspace, tmp_path / "workspace")
    return make_bench(workspace=tmp_path / "workspace")


@pytest.fixture(scope="module")
def stages(make_bench: MakeBench) -> tuple[Bench, dict[str, Path]]:
    """The run by its single stages, each followed by a copy of the workspace."""
    bench, copies = make_bench(), {}
    for stage in ("train", "search", "refit", "export"):
        assert command_line(bench.arguments(stage, "--quiet")) == 0
        copies[stage] = bench.workspace.with_name(f"{bench.workspace.name}-{stage}")
        shutil.copytree(bench.workspace, copies[stage])
    return bench, copies


def test_report_and_files(undisturbed: Bench) -> None:
    report = undisturbed.report

    required = ["run", "backbone", "task", "space", "splits", "supernet", "search", "winner", "baselines", "export"]
    assert {*required, "versions"} <= report.keys()
    assert {"steps", "seconds"} <= report["supernet"].keys()
    assert {"sampler", "trials", "evaluated", "reused", "seconds"} <= report["search"].keys()
    winner = ["trial", "subnet", "digest", "parameters", "search_accuracy", "test_accuracy", "test_accuracy_inherited"]
    assert set(winner) <= report["winner"].keys()
    assert {"parameters", "test_accuracy"} <= report["baselines"]["lora"].keys()
    assert {"path", "max_abs_diff"} <= report["export"].keys()
    assert report["run"] == "tiny"
    assert (report["backbone"], report["task"], report["space"]) == ("vit_tiny_patch16_224", "digits", "glora_medium")
    assert report["splits"]["test"]["images"] == 200
    assert report["search"]["trials"] == report["search"]["evaluated"] + report["search"]["reused"] == 48
    assert report["export"]["path"] == str(undisturbed.folder / "export")
    assert undisturbed.record.stages["report"] == report
    assert undisturbed.outcome()["files"] == [
        "checkpoints",
        "export",
        "export/README.md",
        "export/config.json",
        "export/model.safetensors",
        "report.json",
    ]
    assert "test_accuracy" in (undisturbed.folder / "export" / "README.md").read_text()


def test_exported_model_scores_the_same_without_glorasearch(undisturbed: Bench, tmp_path: Path) -> None:
    args = {"img_size": 28, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 2, "in_chans": 1}
    backbone = build_backbone(BackboneConfig(name="vit_tiny_patch16_224", pretrained=False, args=args), 10)
    config = DataConfig(source="digits", train=200, search=100, test=200)
    images, labels = load_splits(config, InputSpec.from_backbone(backbone)).test.batch(slice(0, 200), "cpu")
    save_file({"images": images.contiguous(), "labels": labels}, tmp_path / "test.safetensors")

    scored = subprocess.run(
        [sys.executable, "-I", "-c", SCORE, undisturbed.folder / "export", tmp_path / "test.safetensors"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert float(scored.stdout) == pytest.approx(undisturbed.report["winner"]["test_accuracy"], abs=1e-7)


@pytest.mark.parametrize("command", ["run", "search", "export", "runs", "show"])
def test_a_finished_run_answers_again_without_torch(command: str, undisturbed: Bench) -> None:
    place = ["--workspace", str(undisturbed.workspace), "--json"]
    arguments = {"runs": ["runs", *place], "show": ["show", "tiny", *place]}

    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments.get(command, undisturbed.arguments(command, "--json"))],
        capture_output=True,
        text=True,
    )

    assert answer.returncode == 0, answer.stderr
    content = json.loads(answer.stdout)
    if command == "run":
        assert content == undisturbed.report
    elif command == "search":
        assert content["digest"] == undisturbed.report["winner"]["digest"]


def test_the_export_says_how_its_images_were_made(undisturbed: Bench) -> None:
    config = json.loads((undisturbed.folder / "export" / "config.json").read_text())["pretrained_cfg"]
    given = undisturbed.report["splits"]["input"]

    for key in ("mean", "std", "interpolation", "crop_pct", "crop_mode"):
        assert config[key] == given[key]


def test_images_that_changed_between_stages_are_refused(
    make_bench: MakeBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = load_digits().images
    for number in range(60):
        folder = tmp_path / "images" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((15 * images[number]).astype(np.uint8)).save(folder / f"{number:02}.png")
    sizes = ("data.train=30", "data.search=10", "data.test=20", "train.steps=2")
    bench = make_bench(f"data.source=folder:{tmp_path / 'images'}", *sizes)
    assert command_line(bench.arguments("train", "--quiet")) == 0

    # One image more draws all splits anew: the training split would come back in the test split.
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "images" / "0" / "-.png")
    assert command_line(bench.arguments("search", "--quiet")) == 2
    error = capsys.readouterr().err
    assert "the images are not those that stage 'train' of run 'tiny' saw" in error
    assert "--fresh" in error
    assert list(bench.record.stages) == ["train"]
    assert command_line(bench.arguments("train", "--quiet", "--fresh")) == 0

    # Images of the search split that go while the training split stays.
    assert command_line(bench.arguments("search", "--quiet")) == 0
    result = bench.record.stages["search"]
    RunStore(bench.database_url).set_stage("tiny", "search", {**result, "split": "0" * 64})
    assert command_line(bench.arguments("refit", "--quiet")) == 2
    assert "stage 'search' of run 'tiny' saw" in capsys.readouterr().err


def test_another_configuration_of_the_same_name_is_refused(
    undisturbed: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    before = undisturbed.outcome()

    assert command_line(undisturbed.arguments("run", "--set", "train.steps=7", "--set", "search.sampler=random")) == 2

    error = capsys.readouterr().err
    assert "train.steps: 80 then, 7 now" in error
    assert "search.sampler: 'evolution' then, 'random' now" in error
    assert "--set name=<name>" in error
    assert "--fresh" in error
    assert undisturbed.outcome() == before


def test_an_edited_search_space_is_another_configuration(
    undisturbed: Bench, make_bench: MakeBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "own.toml"
    space.write_text('[choices]\nB = ["none", "lora:2"]\n')
    bench = make_bench(f"space.name={space}")
    assert command_line(bench.arguments("train", "--quiet", "--set", "train.steps=1")) == 0
    space.write_text('[choices]\nB = ["none", "lora:4"]\n')

    assert command_line(bench.arguments("search", "--quiet", "--set", "train.steps=1")) == 2

    assert "spaces.space.choices.B: ['none', 'lora:2'] then, ['none', 'lora:4'] now" in capsys.readouterr().err


def test_fresh_starts_over_but_not_before_everything_is_checked(
    copied: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    before = copied.outcome()
    for wrong in ("device=tpu", "space.min=10_000_000", "search.parents=40", "backbone.name=vit_nothing"):
        assert command_line(copied.arguments("run", "--fresh", "--quiet", "--set", wrong)) == 2
    assert command_line(copied.arguments("search", "--fresh", "--quiet")) == 2
    assert "start over with `glorasearch train --fresh`" in capsys.readouterr().err
    assert copied.outcome() == before

    short = [text for key in ("train.steps=2", "search.trials=16", "refit.steps=0") for text in ("--set", key)]
    assert command_line(copied.arguments("run", "--fresh", "--quiet", "--json", *short)) == 0

    report = json.loads(capsys.readouterr().out)
    assert report == copied.report
    assert (report["supernet"]["steps"], report["search"]["trials"]) == (2, 16)
    assert len(copied.outcome()["trials"]) == 16
    assert {row[1] for row in copied.outcome()["metrics"] if row[0] == "train"} == {2}
    assert copied.outcome()["files"] == before["files"]


@pytest.mark.parametrize(("stage", "missing"), [("search", "train"), ("refit", "train"), ("export", "train")])
def test_a_stage_without_the_one_before_is_refused(
    stage: str, missing: str, make_bench: MakeBench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = make_bench()

    assert command_line(bench.arguments(stage, "--quiet")) == 2

    assert f"no finished stage {missing!r}; run `glorasearch {missing} RUN_FILE` first" in capsys.readouterr().err
    assert RunStore(bench.database_url).list() == []


def test_refit_needs_the_search(
    stages: tuple[Bench, dict[str, Path]], make_bench: MakeBench, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = make_bench(workspace=stages[1]["train"])

    assert command_line(trained.arguments("refit", "--quiet")) == 2

    assert "no finished stage 'search'; run `glorasearch search RUN_FILE` first" in capsys.readouterr().err
    assert trained.record.state is RunState.STOPPED


def test_single_stages_equal_the_whole_run(stages: tuple[Bench, dict[str, Path]], undisturbed: Bench) -> None:
    bench, _ = stages
    assert list(bench.record.stages) == ["train", "search", "refit", "export"]
    assert bench.record.state is RunState.STOPPED
    model = "export/model.safetensors"
    assert (bench.folder / model).read_bytes() == (undisturbed.folder / model).read_bytes()

    assert command_line(bench.arguments("run", "--quiet")) == 0

    assert bench.outcome() == undisturbed.outcome()
    assert bench.record.state is RunState.FINISHED
    assert command_line(bench.arguments("export", "--quiet")) == 0
    assert bench.record.state is RunState.FINISHED


def test_a_run_has_one_process(make_bench: MakeBench, capsys: pytest.CaptureFixture[str]) -> None:
    bench = make_bench("train.steps=5000")
    first = bench.start()
    bench.wait_until(bench.checkpoint("train").exists, first)
    first.send_signal(signal.SIGSTOP)  # it lives, and stays where it is

    assert command_line(bench.arguments("run", "--quiet")) == 1
    assert f"run 'tiny' is being worked on by process {first.pid}" in capsys.readouterr().err
    assert command_line(bench.arguments("run", "--quiet", "--fresh")) == 1
    assert f"process {first.pid}" in capsys.readouterr().err
    assert bench.checkpoint("train").exists()
    assert bench.record.state is RunState.RUNNING


def test_weights_that_are_gone_or_damaged_are_named_and_made_again(
    stages: tuple[Bench, dict[str, Path]], undisturbed: Bench, make_bench: MakeBench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = make_bench(workspace=stages[1]["train"])
    digest = bench.record.stages["train"]["weights"]
    weights = bench.workspace / "weights" / digest / "weights.safetensors"

    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert command_line(bench.arguments("search", "--quiet")) == 1
    error = capsys.readouterr().err
    assert "weights of stage 'train' of run 'tiny' are damaged" in error
    assert f"delete {weights.parent}" in error
    assert "`glorasearch train RUN_FILE` recreates them" in error

    shutil.rmtree(weights.parent)
    assert command_line(bench.arguments("search", "--quiet")) == 1
    error = capsys.readouterr().err
    assert "weights of stage 'train' of run 'tiny' are gone" in error
    assert "`glorasearch train RUN_FILE` recreates them" in error
    assert bench.record.state is RunState.FAILED

    assert command_line(bench.arguments("train")) == 0
    assert re.search(r"are not in the weight store .*: running it again", capsys.readouterr().err)
    assert weights.read_bytes() == content
    assert command_line(bench.arguments("run", "--quiet")) == 0
    assert bench.outcome() == undisturbed.outcome()


def test_a_finished_run_needs_no_weights_but_its_files(copied: Bench, undisturbed: Bench) -> None:
    assert command_line(copied.arguments("run", "--quiet")) == 0  # the workspace was moved: the export is, too
    assert copied.report["export"]["path"] == str(copied.folder / "export")
    shutil.rmtree(copied.workspace / "weights")
    assert command_line(copied.arguments("run", "--quiet")) == 0
    assert not (copied.workspace / "weights").exists()
    (copied.folder / "report.json").unlink()
    shutil.rmtree(copied.folder / "export")

    assert command_line(copied.arguments("run", "--quiet")) == 0

    assert copied.outcome() == undisturbed.outcome()


def test_weights_that_come_out_differently_are_refused(copied: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    runs = RunStore(copied.database_url)
    (copied.folder / "report.json").unlink()
    training = copied.record.stages["train"]
    runs.set_stage("tiny", "train", training | {"weights": "0" * 64})

    assert command_line(copied.arguments("run", "--quiet")) == 1

    assert "ended in other weights" in capsys.readouterr().err
    assert copied.record.stages["train"]["weights"] == "0" * 64


def test_export_goes_where_it_is_told_and_replaces_exports_only(
    copied: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.tex").write_text("years of work")
    assert command_line(copied.arguments("run", "--quiet", "--set", f"export.path={thesis}")) == 2
    assert f"{thesis} exists and is not an exported model" in capsys.readouterr().err
    assert command_line(copied.arguments("export", "--quiet", "--set", f"export.path={thesis / 'chapter.tex'}")) == 2
    assert (thesis / "chapter.tex").read_text() == "years of work"

    elsewhere = thesis / "model"
    assert command_line(copied.arguments("run", "--quiet", "--set", f"export.path={elsewhere}")) == 0

    assert copied.report["export"]["path"] == str(elsewhere)
    assert (elsewhere / "model.safetensors").read_bytes() == (
        copied.folder / "export" / "model.safetensors"
    ).read_bytes()
    config = json.loads((elsewhere / "config.json").read_text())
    assert config["glorasearch"]["metrics"]["test_accuracy"] == copied.report["winner"]["test_accuracy"]


def test_trials_are_those_of_an_optuna_study(undisturbed: Bench) -> None:
    storage = TrialStorage(undisturbed.database_url)
    trials = storage.get_all_trials(storage.get_study_id_from_name("tiny"))
    best = min(trials, key=lambda trial: trial.value or torch.inf)

    assert best.number == undisturbed.report["winner"]["trial"]
    assert best.user_attrs["subnet"] == undisturbed.report["winner"]["digest"]
    assert best.user_attrs["parameters"] == undisturbed.report["winner"]["parameters"]
    assert best.user_attrs["accuracy"] == undisturbed.report["winner"]["search_accuracy"]
