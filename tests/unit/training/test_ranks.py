"""Ranks of a step: the same mathematics in one process and in several, to the bit, whatever is killed and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import rank_process
from support.data import few_digits
from support.processes import run_script

from glorasearch.data import SearchData
from glorasearch.errors import ConfigError
from glorasearch.supernet import Supernet
from glorasearch.training import Sandwich, SupernetTrainer, Uniform
from glorasearch.weights import load_checkpoint

TRAININGS: dict[str, dict[str, Any]] = {
    "uniform": {"drop_path": 0.4},
    "sandwich": {"strategy": "sandwich", "drop_path": 0.4},
    "fixed": {"strategy": "fixed", "clip_norm": 0.01},
    "four ranks": {"ranks": 4},
    "directions": {"space": "directions"},
    "averaged": {"space": "directions", "ema_decay": 0.7},
    "patient": {"steps": 40, "lr": 3e-2, "patience": 1, "patience_every": 3, "ema_decay": 0.5},
    "augmented": {"augment": "strong", "ranks": 4},
    "fused": {"fast": True},
    "fused sandwich": {"fast": True, "strategy": "sandwich", "ranks": 4, "drop_path": 0.4},
}
OTHERS: dict[str, dict[str, Any]] = {
    "cut by two": {"stop": 10},
    "resumed by two": {},
    "diverged": {"lr": 1e30, "checkpoint_every": 1},
    "broken": {"break": 8},
    "drifted": {"drift": [1, 6]},
    "other start": {"seeds": [0, 1]},
    "one cannot capture": {"fast": True, "uncaptured": [1], "strategy": "sandwich"},
}
KILLED: dict[str, Any] = {"drop_path": 0.2}
SIX: dict[str, Any] = {"ranks": 6, "steps": 6}
Alone = Callable[..., dict[str, Any]]
Ended = dict[str, list[Any]]


@pytest.fixture(scope="module")
def alone() -> Alone:
    """How a training ends that one process does."""
    data = few_digits()
    return lambda **spec: rank_process.train(data, spec)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where a training of several processes has its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return lambda name: folder / f"{name}.safetensors"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, kept: Callable[[str], Path], alone: Alone) -> Ended:
    """What real processes that talk over gloo say of their trainings, by group; None for one that was killed."""
    assert alone(checkpoint=str(kept("resumed by two")), stop=10)["error"] == "StoppedError: "
    folder = tmp_path_factory.mktemp("ranks")
    groups = {
        "two": (2, TRAININGS | OTHERS),
        "killed": (2, {"killed": KILLED | {"kill": [1, 7]}}),
        "three": (3, {"six": SIX}),
    }
    content = {
        group: {
            "processes": processes,
            "trainings": {name: spec | {"checkpoint": str(kept(name))} for name, spec in trainings.items()},
        }
        for group, (processes, trainings) in groups.items()
    }
    (folder / "groups.json").write_text(json.dumps(content))
    run_script("rank_process", str(folder))
    files = {
        group: [folder / f"{group}-{process}.json" for process in range(processes)]
        for group, (processes, _) in groups.items()
    }
    return {
        group: [json.loads(file.read_text()) if file.exists() else None for file in own] for group, own in files.items()
    }


@pytest.fixture(scope="module")
def two(ended: Ended) -> list[dict[str, Any]]:
    return ended["two"]


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_end_with_the_bits_of_one(
    two: list[dict[str, Any]], alone: Alone, tmp_path: Path, name: str
) -> None:
    expected = alone(**TRAININGS[name], checkpoint=str(tmp_path / "alone.safetensors"))
    assert expected["error"] == ""
    for found in two:
        assert (found[name]["digest"], found[name]["draws"]) == (expected["digest"], expected["draws"])
        assert found[name]["steps"] == expected["steps"]
    assert (len(expected["steps"]) < 40) or name != "patient"
    assert two[0][name]["rows"] == expected["rows"]
    assert two[1][name]["rows"] == [], "process 0 alone records"


def test_three_processes_with_six_ranks(ended: Ended, alone: Alone) -> None:
    """No power of two, and a gradient whose length three does not divide."""
    assert [found["six"]["digest"] for found in ended["three"]] == [alone(**SIX)["digest"]] * 3


def test_two_processes_go_on_where_one_was_stopped(two: list[dict[str, Any]], alone: Alone) -> None:
    assert two[1]["resumed by two"]["steps"] == [8, 9, 10, 11, 12], "both are told, though one reads the checkpoint"
    assert two[0]["resumed by two"]["digest"] == alone()["digest"]


def test_one_process_goes_on_where_two_were_stopped(
    two: list[dict[str, Any]], alone: Alone, kept: Callable[[str], Path]
) -> None:
    assert two[0]["cut by two"]["error"] == "StoppedError: "
    resumed = alone(checkpoint=str(kept("cut by two")))
    assert resumed["steps"] == [8, 9, 10, 11, 12]
    assert resumed["digest"] == alone()["digest"]


def test_a_process_that_is_killed_ends_the_others_and_the_training_goes_on_from_its_checkpoint(
    ended: Ended, alone: Alone, kept: Callable[[str], Path]
) -> None:
    first, killed = ended["killed"]
    assert killed is None
    error = first["killed"]["error"]
    assert error.startswith("WorkerLostError: process 0 of 2 of this training cannot reach the others")
    assert "Start the same command again: it resumes from the last checkpoint" in error
    resumed = alone(**KILLED, checkpoint=str(kept("killed")))
    assert resumed["steps"][0] == 4
    assert resumed["digest"] == alone(**KILLED)["digest"]


@pytest.mark.parametrize(("name", "step"), [("diverged", 1), ("broken", 4)])
def test_all_processes_stop_where_the_loss_is_not_finite(
    two: list[dict[str, Any]], kept: Callable[[str], Path], name: str, step: int
) -> None:
    errors = [found[name]["error"] for found in two]
    assert all(error.startswith("NonFiniteLossError: training stopped") for error in errors), errors
    assert f"The last good checkpoint is {kept(name)}" in errors[0]
    found = load_checkpoint(kept(name))
    assert found is not None
    assert found[1]["step"] == step


def test_processes_that_round_differently_are_levelled_at_the_next_checkpoint(
    two: list[dict[str, Any]], alone: Alone
) -> None:
    digests = [found["drifted"]["digest"] for found in two]
    assert digests[0] == digests[1]
    assert digests[0] != alone()["digest"], "there was something to level"


def test_processes_with_different_trainings_are_refused(two: list[dict[str, Any]]) -> None:
    for number, found in enumerate(two):
        assert found["other start"]["error"].startswith(f"RunError: process {number} of 2: the processes of this")


def test_the_gradient_of_a_step_is_the_mean_over_the_ranks(digits: SearchData, make_supernet: Any) -> None:
    """Each rank has its own subnet and its own part of the batch; clipping is of the mean."""
    supernet, twin = make_supernet(), make_supernet()
    config = SupernetTrainer.Config(steps=1, batch_size=15, ranks=3, clip_norm=0.05, warmup_steps=0)
    strategy = Uniform(supernet.space, 0)
    trainer = SupernetTrainer(supernet, digits.train, strategy, config)
    trainer.run()
    indices = trainer._batches._order.indices(0)
    total = torch.zeros(())
    for rank in range(3):
        images, labels = digits.train.batch(indices[5 * rank : 5 * rank + 5])
        with twin.activate(Uniform(twin.space, 0).sample(0, rank)[0].subnet):
            total = total + torch.nn.functional.cross_entropy(twin(images), labels) / 3
    total.backward()  # type: ignore[no-untyped-call]
    expected = {name: p.grad for name, p in _trained(twin).items() if p.grad is not None}
    norm = torch.nn.utils.get_total_norm(expected.values())
    assert norm > 0.05, "it is clipped"
    found = {name: p.grad for name, p in _trained(supernet).items() if p.grad is not None}
    assert found.keys() == expected.keys(), "what no rank drew has no gradient, and stays as it is"
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name] * 0.05 / norm, atol=1e-6), name


def _trained(supernet: Supernet) -> dict[str, Any]:
    return supernet.adapter_parameters() | supernet.head_parameters()


def test_every_rank_has_paths_of_its_own_and_the_first_those_of_a_step_without_ranks(make_supernet: Any) -> None:
    space = make_supernet().space
    for strategy in (Uniform(space, 3), Sandwich(space, 3)):
        drawn = [strategy.sample(5, rank) for rank in range(4)]
        assert drawn[0] == strategy.sample(5)
        assert len({tuple(path.subnet.digest for path in paths) for paths in drawn}) == 4


def test_fused_and_plain_ranks_agree(alone: Alone) -> None:
    rows = [alone(fast=fast, ranks=3, steps=6)["rows"] for fast in (False, True)]
    for plain, fused in zip(*rows, strict=True):
        assert plain == pytest.approx(fused, rel=1e-3)


def test_what_cannot_be_captured_is_trained_by_the_plain_step(
    two: list[dict[str, Any]], alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    """Where one process cannot, none does. (The fused step has moved the parameters, which changes last bits.)"""
    found = alone(**OTHERS["one cannot capture"] | {"uncaptured": [0]})
    assert "training uses the plain step" in caplog.text
    assert [other["one cannot capture"]["digest"] for other in two] == [found["digest"]] * 2
    plain = alone(strategy="sandwich")
    assert found["rows"] == [pytest.approx(row, rel=1e-5) for row in plain["rows"]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ranks": 0}, "'train.ranks': expected at least 1, found 0"),
        ({"ranks": 5, "batch_size": 64}, r"batch_size is 64, which 5 ranks cannot share equally"),
    ],
)
def test_ranks_that_cannot_be(given: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SupernetTrainer.Config(steps=1, **given)
