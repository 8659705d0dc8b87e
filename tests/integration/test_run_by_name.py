"""A run goes on by its name with the values that it was started with, and is trained longer as a run of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glorasearch.cli.main import run as command_line

Bench = Any
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """A run whose training has finished, started with values of its own."""
    made = make_bench("train.steps=8", "search.trials=16", "seed=3")
    assert command_line(made.arguments("train", "--quiet")) == 0
    return made


@pytest.fixture
def trained(bench: Bench, make_bench: Callable[..., Bench], tmp_path: Path) -> Bench:
    """The same in a workspace that a test may change."""
    shutil.copytree(bench.workspace, tmp_path / "workspace")
    return make_bench(workspace=tmp_path / "workspace")


def losses(bench: Bench, name: str, call: Call) -> dict[int, float]:
    shown = json.loads(call("show", name, *bench.place, "--json")[1])
    return {row["step"]: row["value"] for row in shown["metrics"] if (row["stage"], row["name"]) == ("train", "loss")}


def test_a_run_remembers_its_values(trained: Bench, call: Call) -> None:
    code, out, err = call("search", "tiny", *trained.place, "--quiet", "--json")

    assert (code, err) == (0, "")
    assert json.loads(out)["trials"] == 16
    assert list(trained.record.stages) == ["train", "search"]
    assert trained.record.config["seed"] == 3
    code, _, err = call("search", str(trained.run_file), *trained.place)
    assert code == 2
    assert "train.steps: 8 then, 80 now" in err
    assert "`glorasearch run tiny` goes on as it was started" in err


def test_a_finished_training_is_made_longer(trained: Bench, call: Call) -> None:
    longer = ("train", "tiny", *trained.place, "--set", "train.steps=20")
    code, out, err = call(*longer, "--json")

    assert code == 0
    assert "supernet: 12 steps more than the 8 of run 'tiny', from its weights" in err
    result = json.loads(out)
    assert (result["steps"], result["steps_before"], result["continues"]) == (12, 8, "tiny")
    assert result["weights"] != trained.record.stages["train"]["weights"]
    before, after = losses(trained, "tiny", call), losses(trained, "tiny-steps-20", call)
    assert after[5] < before[5]  # it does not begin at the start
    assert call(*longer, "--json")[1] == out
    assert call("runs", "rename", "tiny", "other", *trained.place)[0] == 0  # it has the weights by now


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny", "--set", "train.steps=20", "--set", "seed=4"], "seed: not as in run 'tiny', whose supernet"),
        (["tiny", "--set", "train.steps=20", "--set", "space.name=lora"], "space: not as in run 'tiny'"),
        (["tiny", "--set", "train.steps=4"], "train.steps: 8 then, 4 now"),
        (["tiny", "--set", "train.steps=20", "--set", "name=tiny"], "needs a name of its own"),
        (["RUN_FILE", "--set", "name=x", "--set", "longer.run=tinny"], "no run 'tinny' (did you mean 'tiny'?)"),
        (["RUN_FILE", "--set", "name=x", "--set", "longer.run=tiny", "--set", "train.steps=8"], "8: give more"),
        (["tinny"], "'tinny' is no run file, and there is no run 'tinny' (did you mean 'tiny'?)"),
    ],
)
def test_refusals(arguments: list[str], message: str, trained: Bench, call: Call) -> None:
    given = [str(trained.run_file) if one == "RUN_FILE" else one for one in arguments]

    code, _, err = call("train", *given, *trained.place)

    assert code == 2
    assert message in err
    assert "reading images" not in err
    assert [run["run"] for run in json.loads(call("runs", *trained.place, "--json")[1])] == ["tiny"]


def test_what_a_longer_training_needs_is_kept_until_it_has_it(trained: Bench, call: Call) -> None:
    weights = Path(trained.workspace) / "weights" / trained.record.stages["train"]["weights"]
    weights.rename(weights.with_name("elsewhere"))
    code, _, err = call("train", "tiny", *trained.place, "--set", "train.steps=20")
    assert code == 2
    assert "`glorasearch train tiny` makes them again" in err
