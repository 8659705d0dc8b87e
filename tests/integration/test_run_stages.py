"""A run by its single stages: what each needs of those before, and what is made again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from glorasearch.cli.main import run as command_line
from glorasearch.db import RunState, RunStore

Bench = Any
MakeBench = Callable[..., Bench]


@pytest.fixture(scope="module")
def stages(make_bench: MakeBench) -> tuple[Bench, dict[str, Path]]:
    """The run by its single stages, each followed by a copy of the workspace."""
    bench, copies = make_bench(), {}
    for stage in ("train", "search", "refit", "export"):
        assert command_line(bench.arguments(stage, "--quiet")) == 0
        copies[stage] = bench.workspace.with_name(f"{bench.workspace.name}-{stage}")
        shutil.copytree(bench.workspace, copies[stage])
    return bench, copies


@pytest.mark.parametrize("steps", [0, 2])
def test_images_that_changed_between_stages_are_refused(
    steps: int, make_bench: MakeBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = load_digits().images
    for number in range(60):
        folder = tmp_path / "images" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((15 * images[number]).astype(np.uint8)).save(folder / f"{number:02}.png")
    sizes = ("data.train=30", "data.search=10", "data.test=20", f"train.steps={steps}")
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
