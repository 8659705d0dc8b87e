"""A run of a space with one subnet: that method trained alone, scored once, refitted, exported; nothing searched."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState

from glorasearch.cli.main import run as command_line
from glorasearch.db import RunState, TrialStorage
from glorasearch.runs import Run, RunConfig, Workspace
from glorasearch.runs.results import TrainResult
from glorasearch.runs.session import Session
from glorasearch.space import Subnet

Bench = Any
MakeBench = Callable[..., Bench]
METHOD = ("space.name=lora", 'report.baselines=["lora", "bitfit"]')
STAGES = ["train", "search", "refit", "baseline:bitfit", "test", "export", "report"]
WITHOUT_RAY = """
import json, sys
sys.modules["ray"] = None
from glorasearch.cli.main import run
sys.exit(any([run(arguments) for arguments in json.loads(sys.argv[1])]))
"""


@pytest.fixture(scope="module")
def fixed(make_bench: MakeBench) -> tuple[Bench, str]:
    """LoRA alone, finished by one process, and what that said; not to be changed by any test."""
    bench = make_bench(*METHOD)
    return bench, bench.finish()


def session_of(bench: Bench) -> Session:
    return Run(RunConfig.load(bench.run_file, bench.overrides), Workspace.open(bench.workspace)).session()


def test_it_says_that_nothing_is_searched(fixed: tuple[Bench, str]) -> None:
    bench, said = fixed

    assert "lora has one subnet: trained alone, nothing to search" in said
    assert "lora: 80/80" in said
    assert "refit of lora: 40/40" in said
    assert "baseline lora: this run's own method, not trained a second time" in said
    assert "supernet" not in said
    assert "winner" not in said
    assert list(bench.record.stages) == STAGES
    assert bench.record.state is RunState.FINISHED


def test_the_search_is_one_finished_trial_with_the_score_of_the_trained_method(fixed: tuple[Bench, str]) -> None:
    bench, _ = fixed
    storage = TrialStorage(bench.database_url)
    (trial,) = storage.get_all_trials(storage.get_study_id_from_name("tiny"))
    result = bench.record.stages["search"]
    assert trial.state is TrialState.COMPLETE
    assert trial.user_attrs["accuracy"] == result["search_accuracy"] == bench.report["winner"]["search_accuracy"]
    assert (result["trials"], result["evaluated"], result["sampler"], result["images"]) == (1, 1, "none", 100)

    session = session_of(bench)
    subnet = Subnet.from_dict(result["subnet"])
    model = session.load(session.supernet(), TrainResult).merged(subnet)
    images, labels = session.data.search.batch(slice(0, 100))
    with torch.no_grad():
        assert float((model(images).argmax(-1) == labels).float().mean()) == pytest.approx(result["search_accuracy"])
    assert {choice for _, choice in subnet.items()} == {"lora:4"}


def test_it_sees_the_images_and_the_steps_of_a_searched_run(fixed: tuple[Bench, str], undisturbed: Bench) -> None:
    bench, _ = fixed
    mine, searched = bench.record.stages, undisturbed.record.stages

    for stage in ("train", "refit"):
        assert mine[stage]["steps"] == searched[stage]["steps"]
    for stage in ("train", "search", "refit"):
        assert mine[stage]["split"] == searched[stage]["split"]
    assert bench.report["splits"] == undisturbed.report["splits"]


def test_no_step_is_another_subnets(make_bench: MakeBench, fixed: tuple[Bench, str]) -> None:
    """Neither a sandwich's distillation nor other samplers have a say in what is trained and scored."""
    other = make_bench(*METHOD, "train.strategy=sandwich", "search.sampler=nsga2")
    assert command_line(other.arguments("train", "--quiet")) == 0
    assert command_line(other.arguments("search", "--quiet")) == 0

    for stage, key in (("train", "weights"), ("search", "search_cross_entropy")):
        assert other.record.stages[stage][key] == fixed[0].record.stages[stage][key]


def test_the_report(fixed: tuple[Bench, str], capsys: pytest.CaptureFixture[str]) -> None:
    bench, _ = fixed
    report = bench.report
    assert report["fixed_method"] is True
    assert report["random_subnets"] is None
    assert list(report["baselines"]) == ["bitfit"]
    assert report["winner"]["parameters"] == 3072  # 4·(in + out) of qkv, proj, fc1 and fc2 of width 24, in two blocks

    assert command_line(bench.arguments("run")) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert command_line(["show", "tiny", "--workspace", str(bench.workspace)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for table in (text, shown):
        assert "lora, refitted" in table
        assert "space lora has one subnet: trained alone for 80 steps" in table
        assert "winner," not in table


def test_a_searched_run_is_told_as_before(undisturbed: Bench) -> None:
    assert undisturbed.report["fixed_method"] is False
    assert undisturbed.record.stages["train"]["fixed_method"] is False
    assert list(undisturbed.report["baselines"]) == ["lora"]


def test_single_stages_equal_the_whole_run(make_bench: MakeBench, fixed: tuple[Bench, str]) -> None:
    bench = make_bench(*METHOD)
    assert command_line(bench.arguments("search", "--quiet")) == 2, "there is nothing trained to score yet"
    for stage in ("train", "search", "refit", "export", "run"):
        assert command_line(bench.arguments(stage, "--quiet")) == 0

    assert bench.outcome() == fixed[0].outcome()


def test_a_run_that_is_killed_within_and_between_its_stages(make_bench: MakeBench, fixed: tuple[Bench, str]) -> None:
    bench = make_bench(*METHOD)
    moments = [
        (bench.checkpoint("train").exists, "train"),
        (lambda: bench.has_stage("train"), "search"),
        (lambda: bench.has_stage("search"), "refit"),
        (bench.checkpoint("refit").exists, "refit"),
        (lambda: bench.has_stage("refit"), "baseline:bitfit"),
        (lambda: bench.has_stage("test"), "export"),
    ]
    in_time, said = [], []
    for condition, stage in moments:
        if bench.stop_when(condition, bench.start()) == 0:
            break
        said.append(bench.errors())
        in_time += [stage] if not bench.has_stage(stage) else []
    said.append(bench.finish())
    assert len(in_time) >= 3, "on a machine so busy that kills come late this says little"
    if in_time[0] == "train":
        assert "lora: resumes at step " in said[1]

    assert bench.outcome() == fixed[0].outcome()


def test_one_score_needs_no_workers(make_bench: MakeBench, fixed: tuple[Bench, str], tmp_path: Path) -> None:
    shutil.copytree(fixed[0].workspace, tmp_path / "workspace")
    bench = make_bench(*METHOD, "name=again", workspace=tmp_path / "workspace")
    commands = [bench.arguments(*stage, "--quiet") for stage in (["train"], ["search", "--executor", "ray"])]
    script = [sys.executable, "-c", WITHOUT_RAY, json.dumps(commands)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    storage = TrialStorage(bench.database_url)
    (trial,) = storage.get_all_trials(storage.get_study_id_from_name("again"))
    assert trial.user_attrs["accuracy"] == fixed[0].report["winner"]["search_accuracy"]


def test_ctrl_c_in_the_refit(make_bench: MakeBench, fixed: tuple[Bench, str]) -> None:
    bench = make_bench(*METHOD)

    assert bench.stop_when(lambda: bench.steps("refit") >= 10, bench.start(), signal.SIGINT) in (0, 130)
    errors = bench.finish()

    assert "trained alone" not in errors, "the training was done again"
    assert bench.outcome() == fixed[0].outcome()


def test_a_recipe_is_the_same_as_its_values_in_the_run_file(make_bench: MakeBench, tmp_path: Path) -> None:
    """Rate, decay and drop path of the space's `[recipe]`: the very training that `[train]` gives with them."""
    space = tmp_path / "mine.toml"
    recipe = "[recipe]\nlr_factor = 0.5\nweight_decay = 0.25\ndrop_path = 0.2\n"
    space.write_text(f'[choices]\nB = ["lora:4"]\n{recipe}')
    short = ("train.steps=20", "train.probe_every=0")
    mine = make_bench(f"space.name={space}", "train.lr=8e-3", *short)
    written = ("train.lr=4e-3", "train.weight_decay=0.25", "train.drop_path=0.2")
    same, other = make_bench("space.name=lora", *written, *short), make_bench("space.name=lora", *written[:1], *short)
    for bench in (mine, same, other):
        assert command_line(bench.arguments("train", "--quiet")) == 0

    found = [(train["key"], train["loss"]) for train in (bench.record.stages["train"] for bench in (mine, same, other))]
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]
    assert found[0][1] != found[2][1]
