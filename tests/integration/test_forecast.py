"""A run says before it starts how long it takes and what it writes; what is cheap to find wrong is found before images
are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glorasearch.runs import forecast

Bench = Any
Call = Callable[..., tuple[int, str, str]]


def test_a_dry_run_says_what_is_ahead_and_starts_nothing(tiny_run_file: Path, tmp_path: Path, call: Call) -> None:
    place = ["--workspace", str(tmp_path), "--set", "race.enabled=true"]
    code, out, err = call("run", str(tiny_run_file), *place, "--dry-run", "--json")

    ahead = json.loads(out)
    assert code == 0
    assert "reading images" in err
    assert ahead["stages"]["train"]["steps"] == 80
    assert ahead["stages"]["search"]["candidates"] == 48 + 32
    assert ahead["stages"]["race"]["steps"] % 80 == 0
    assert ahead["stages"]["refit"]["steps"] == 40 + 8 * 40
    assert ahead["seconds"] == pytest.approx(sum(stage["seconds"] for stage in ahead["stages"].values()))
    assert 0 < ahead["step_seconds"] < 60 * ahead["candidate_seconds"] * 1000
    assert {one["what"] for one in ahead["writes"]} == {
        *("checkpoints", "weights", "exported model", "tables and report", "database"),
    }
    assert call("runs", "--workspace", str(tmp_path), "--json")[1] == "[]\n"
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("glorasearch.db")} == set()


def test_candidates_that_take_long_are_not_waited_for(
    tiny_run_file: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them would take minutes where a step takes seconds, before anything is done."""
    monkeypatch.setattr(forecast, "SECONDS", 0.0)
    place = ["--workspace", str(tmp_path), "--set", "data.search=96", "--set", "train.batch_size=16"]
    code, out, _ = call("run", str(tiny_run_file), *place, "--dry-run", "--json")
    ahead = json.loads(out)
    assert code == 0
    assert ahead["candidate_seconds"] == 96 / 16 * ahead["step_seconds"] / 3


def test_a_run_says_it_before_its_first_stage(make_bench: Callable[..., Bench], call: Call) -> None:
    bench = make_bench("train.steps=2")
    _, _, err = call(*bench.arguments("train"))
    lines = err.splitlines()
    (said,) = (number for number, line in enumerate(lines) if line.startswith("takes about "))
    assert lines[said + 1].startswith("writes about ")
    assert said < next(number for number, line in enumerate(lines) if line.startswith("supernet: 2/2"))
    assert "nothing was started" in call(*bench.arguments("search", "--dry-run"))[1]
    assert list(bench.record.stages) == ["train"]


def test_nothing_is_ahead_of_a_finished_run(undisturbed: Bench, call: Call) -> None:
    assert any(stage.startswith("baseline:") for stage in undisturbed.record.stages), "which are stages of their own"
    _, out, err = call(*undisturbed.arguments("run", "--dry-run"))
    assert "nothing is left to train or to score" in out + err
    assert "takes about" not in out + err


def test_what_is_written_is_no_more_than_was_said(
    undisturbed: Bench, make_bench: Callable[..., Bench], call: Call
) -> None:
    other = make_bench()
    ahead = json.loads(call(*other.arguments("run", "--dry-run", "--json", "--quiet"))[1])
    said = {one["what"]: one["bytes"] for one in ahead["writes"]}

    def size(path: Path) -> int:
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else 0

    assert size(undisturbed.workspace / "weights") < 2 * said["weights"]
    assert (undisturbed.folder / "export" / "model.safetensors").stat().st_size < 1.2 * said["exported model"]
    tables = [undisturbed.folder / name for name in ("report.json", "predictions.csv", "splits.csv")]
    assert sum(path.stat().st_size for path in tables) < 1.2 * said["tables and report"]
    empty = (other.workspace / "glorasearch.db").stat().st_size
    assert (undisturbed.workspace / "glorasearch.db").stat().st_size - empty < 1.5 * said["database"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["device=tpu"], "device 'tpu' is not supported"),
        (["backbone.args.global_pool="], "its output for 2 images is"),
        (["space.min=10_000_000"], "the space reaches from"),
        (['report.baselines=["glora_medium"]'], "'glora_medium' has more than one subnet"),
        (["race.enabled=true", 'race.methods=["glora_medium"]'], "has more than one subnet"),
        (["race.enabled=true", "race.folds=999"], "race.folds is 999, but train + search have 300 images"),
        (["refit.folds=200"], "refit.folds is 200, but the search split has 100 images"),
        (['search.start=["nothing"]'], "nothing"),
        (['search.start=["run:nobody"]'], "no run 'nobody'"),
        (["data.train=1790"], "data"),
    ],
)
def test_cheap_errors_come_before_images_are_read(
    overrides: list[str], message: str, tiny_run_file: Path, tmp_path: Path, call: Call
) -> None:
    sets = [text for override in overrides for text in ("--set", override)]
    code, out, err = call("run", str(tiny_run_file), "--workspace", str(tmp_path), *sets)

    assert (code, out) == (2, "")
    assert message in err
    assert "reading images" not in err
