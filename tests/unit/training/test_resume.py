"""Killed and resumed, a training ends with the bits of one that was not; and it never keeps a checkpoint of garbage."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import STRATEGIES, state_of
from torch import Tensor

from glorasearch.data import DataConfig, InputSpec, SearchData, load_search_data
from glorasearch.errors import NonFiniteLossError
from glorasearch.supernet import Supernet
from glorasearch.training import SupernetTrainer, TrainingRecord, Uniform
from glorasearch.weights import load_checkpoint

Build = Callable[..., SupernetTrainer]
MakeSupernet = Callable[..., Supernet]


class KilledError(Exception):
    """Stands for the end of the process: nothing of the trainer is used afterwards."""


def kill_at(step: int) -> Callable[[int], None]:
    def on_step(done: int) -> None:
        if done == step:
            raise KilledError

    return on_step


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize("drop_path", [0.0, 0.4])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_resumed_is_undisturbed(
    make_trainer: Build, make_supernet: MakeSupernet, tmp_path: Path, strategy: str, drop_path: float
) -> None:
    def trainer(supernet: Supernet, folder: str, rows: list[TrainingRecord], **given: Any) -> SupernetTrainer:
        return make_trainer(
            supernet,
            STRATEGIES[strategy],
            checkpoint=tmp_path / folder / "train.safetensors",
            checkpoint_every=4,
            record_every=3,
            on_record=rows.append,
            **given,
        )

    def fresh() -> Supernet:
        return make_supernet(drop_path_rate=drop_path)

    undisturbed = fresh()
    all_rows: list[TrainingRecord] = []
    expected = trainer(undisturbed, "undisturbed", all_rows).run()

    with pytest.raises(KilledError):
        trainer(fresh(), "killed", [], on_step=kill_at(10)).run()
    torch.manual_seed(99)
    resumed = fresh()
    steps: list[int] = []
    rows: list[TrainingRecord] = []
    found = trainer(resumed, "killed", rows, on_step=steps.append).run()

    assert steps == [8, 9, 10, 11, 12], "it went on from the checkpoint of step 8"
    assert_equal(state_of(resumed), state_of(undisturbed))
    assert found.loss == expected.loss
    later = [row for row in all_rows if row.step > 8]
    assert [(row.step, row.values["loss"], row.values["lr"]) for row in rows] == [
        (row.step, row.values["loss"], row.values["lr"]) for row in later
    ]


def test_killed_again_and_again(make_trainer: Build, make_supernet: MakeSupernet, tmp_path: Path) -> None:
    given: dict[str, Any] = {"checkpoint": tmp_path / "train.safetensors", "checkpoint_every": 2}
    undisturbed = make_supernet()
    make_trainer(undisturbed, checkpoint_every=2).run()
    for step in (1, 3, 5, 6, 11):
        with pytest.raises(KilledError):
            make_trainer(**given, on_step=kill_at(step)).run()
    resumed = make_supernet()
    make_trainer(resumed, **given).run()
    assert_equal(state_of(resumed), state_of(undisturbed))


def test_a_finished_training_is_not_done_again(
    make_trainer: Build, make_supernet: MakeSupernet, tmp_path: Path
) -> None:
    given = {"checkpoint": tmp_path / "train.safetensors"}
    first, second = make_supernet(), make_supernet()
    expected = make_trainer(first, **given).run()
    steps: list[int] = []
    found = make_trainer(second, **given, on_step=steps.append).run()
    assert steps == [12]
    assert found == expected
    assert_equal(state_of(second), state_of(first))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    make_trainer: Build, make_supernet: MakeSupernet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "train.safetensors"
    given: dict[str, Any] = {"checkpoint": path, "checkpoint_every": 4}
    undisturbed, resumed = make_supernet(), make_supernet()
    make_trainer(undisturbed, checkpoint_every=4).run()
    with pytest.raises(KilledError):
        make_trainer(**given, on_step=kill_at(10)).run()
    path.write_bytes(path.read_bytes()[:-100])
    steps: list[int] = []
    with caplog.at_level(logging.WARNING):
        make_trainer(resumed, **given, on_step=steps.append).run()
    assert steps[0] == 4
    assert "using the previous checkpoint" in caplog.text
    assert_equal(state_of(resumed), state_of(undisturbed))


@pytest.mark.parametrize("what", ["seed", "lr", "data", "strategy", "space", "start", "backbone", "drop path"])
def test_the_checkpoint_of_another_training_is_not_taken_over(
    make_trainer: Build,
    make_supernet: MakeSupernet,
    digits: SearchData,
    tmp_path: Path,
    what: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "train.safetensors"
    make_trainer(steps=4, checkpoint=path).run()
    supernet = make_supernet(
        seed=int(what == "start"),
        choices={"B": ["none", "lora:2"]} if what == "space" else None,
        drop_path_rate=0.3 if what == "drop path" else 0.0,
    )
    if what == "backbone":
        with torch.no_grad():
            supernet.frozen_state()["norm.weight"].mul_(1.001)
    steps: list[int] = []
    settings: dict[str, dict[str, Any]] = {
        "seed": {"seed": 1},
        "lr": {"lr": 1e-5},
        "data": {"data": digits.train_and_search()},
    }
    with caplog.at_level(logging.WARNING):
        make_trainer(
            supernet,
            (lambda net: Uniform(net.space, 5)) if what == "strategy" else None,
            steps=4,
            checkpoint=path,
            on_step=steps.append,
            **settings.get(what, {}),
        ).run()
    assert steps == [1, 2, 3, 4]
    assert "belongs to another training" in caplog.text


def finite(path: Path) -> int:
    """Step of the checkpoint, which must be sound and finite."""
    found = load_checkpoint(path)
    assert found is not None
    tensors, meta = found
    assert all(bool(torch.isfinite(value).all()) for value in tensors.values())
    return int(meta["step"])


def test_a_learning_rate_that_diverges(make_trainer: Build, tmp_path: Path) -> None:
    path = tmp_path / "train.safetensors"
    trainer = make_trainer(lr=1e30, vector_lr=1e30, head_lr=1e30, checkpoint=path, checkpoint_every=1, warmup_steps=0)
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.run()
    message = str(caught.value)
    assert "training stopped in step 2: loss" in message
    for part in ("(lr is 1e+30, vector_lr is 1e+30", "warmup_steps is 0", "clip_norm is 1", "precision", str(path)):
        assert part in message
    assert finite(path) == 1


@pytest.mark.parametrize(("every", "kept"), [(4, 4), (5, 5), (3, 6)])
def test_loss_that_stops_being_finite(
    make_trainer: Build, make_supernet: MakeSupernet, tmp_path: Path, every: int, kept: int
) -> None:
    """The weights break in step 7; the loss of step 8 is the first to show it, and is read at the next record."""
    path = tmp_path / "train.safetensors"
    supernet = make_supernet()

    def break_weights(step: int) -> None:
        if step == 7:
            with torch.no_grad():
                supernet.head_parameters()["head.weight"].fill_(float("inf"))

    trainer = make_trainer(supernet, checkpoint=path, checkpoint_every=every, record_every=5, on_step=break_weights)
    with pytest.raises(NonFiniteLossError, match=r"training stopped in step 8: loss nan"):
        trainer.run()
    assert not supernet.training
    assert finite(path) == kept
    resumed = make_supernet()
    make_trainer(resumed, checkpoint=path, checkpoint_every=every, record_every=5).run()
    undisturbed = make_supernet()
    make_trainer(undisturbed, checkpoint_every=every, record_every=5).run()
    assert_equal(state_of(resumed), state_of(undisturbed))


def test_weights_that_break_in_the_step_before_a_checkpoint_are_not_kept(
    make_trainer: Build, make_supernet: MakeSupernet, tmp_path: Path
) -> None:
    path = tmp_path / "train.safetensors"
    supernet = make_supernet()

    def break_weights(step: int) -> None:
        if step == 8:
            with torch.no_grad():
                supernet.head_parameters()["head.bias"].fill_(float("nan"))

    trainer = make_trainer(supernet, checkpoint=path, checkpoint_every=4, on_step=break_weights)
    with pytest.raises(NonFiniteLossError, match=r"stopped after step 8: weights/head\.bias is no longer finite"):
        trainer.run()
    assert finite(path) == 4


def test_data_that_is_not_finite(make_trainer: Build, tmp_path: Path) -> None:
    """A standard deviation of nearly nothing makes pixels infinite."""
    spec = InputSpec(channels=1, height=14, width=14, mean=(0.5,), std=(1e-45,))
    data = load_search_data(DataConfig(source="digits", train=60, search=40), spec)
    path = tmp_path / "train.safetensors"
    with pytest.raises(NonFiniteLossError, match=r"training stopped in step 1: loss nan.*There is no checkpoint"):
        make_trainer(data=data.train, checkpoint=path).run()
    assert load_checkpoint(path) is None
