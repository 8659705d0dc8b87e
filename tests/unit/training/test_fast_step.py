"""The trainer with the fused step; on the CPU it runs uncompiled, which is all that differs from a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from support.conv_models import build
from support.models import TINY_VIT
from support.training import FastTrainer

from glorasearch.fused import FusedStep, Pool
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.training import Sandwich, SupernetTrainer, TrainingResult, Uniform

STEPS = 12


def trainer(kind: type[SupernetTrainer], supernet: Supernet, data: Any, sandwich: bool = False, **others: Any) -> Any:
    config = SupernetTrainer.Config(
        steps=STEPS, batch_size=16, warmup_steps=2, record_every=2, checkpoint_every=4, label_smoothing=0.1
    )
    strategy = (Sandwich if sandwich else Uniform)(supernet.space, 0)
    return kind(supernet, data.train, strategy, config, **others)


def apart(one: Supernet, other: Supernet) -> float:
    """Sum of all differences: AdamW makes much of single gradients that are rounding, so single ones say little."""
    mine, theirs = one.adapter_state(), other.adapter_state()
    return sum((mine[name] - theirs[name]).abs().sum().item() for name in mine)


@pytest.mark.parametrize("sandwich", [False, True])
def test_it_trains_as_the_plain_step_does(digits: Any, make_supernet: Callable[..., Supernet], sandwich: bool) -> None:
    plain, fast = make_supernet(), make_supernet()
    start = make_supernet()
    nets = (SupernetTrainer, plain), (FastTrainer, fast)
    losses = [trainer(kind, net, digits, sandwich).run().loss for kind, net in nets]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert apart(plain, fast) < 0.05 * apart(plain, start)


def test_killed_and_resumed_it_ends_with_the_same_bits(
    digits: Any, make_supernet: Callable[..., Supernet], tmp_path: Path
) -> None:
    whole, cut = make_supernet(drop_path_rate=0.2), make_supernet(drop_path_rate=0.2)
    trainer(FastTrainer, whole, digits, checkpoint=tmp_path / "whole").run()

    def stop(step: int) -> None:
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(FastTrainer, cut, digits, checkpoint=tmp_path / "cut", on_step=stop).run()
    again = make_supernet(drop_path_rate=0.2)
    trainer(FastTrainer, again, digits, checkpoint=tmp_path / "cut").run()
    assert apart(whole, again) == 0


def test_the_plain_step_goes_on_from_its_checkpoint(
    digits: Any, make_supernet: Callable[..., Supernet], tmp_path: Path
) -> None:
    def stop(step: int) -> None:
        if step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(FastTrainer, make_supernet(), digits, checkpoint=tmp_path / "cut", on_step=stop).run()
    seen: list[int] = []
    plain, whole = make_supernet(), make_supernet()
    trainer(SupernetTrainer, plain, digits, checkpoint=tmp_path / "cut", on_step=seen.append).run()
    trainer(FastTrainer, whole, digits).run()
    assert seen[0] == 8, "it resumed at the last checkpoint"
    assert apart(plain, whole) < 0.05 * apart(whole, make_supernet())


def after_failing(
    digits: Any, supernet: Supernet, monkeypatch: pytest.MonkeyPatch, *, done: bool, strict: bool = False
) -> TrainingResult:
    """Train with a fused step whose first run fails, before or after it has moved the weights."""
    run = FusedStep.run

    def fail(self: FusedStep, *arguments: Any) -> Any:
        if done:
            run(self, *arguments)
            self.steps_done = 1
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(FusedStep, "run", fail)
    made = trainer(FastTrainer, supernet, digits)
    made._step._strict = strict
    found: TrainingResult = made.run()
    return found


@pytest.mark.parametrize("done", [False, True])
def test_what_cannot_be_captured_is_trained_by_the_plain_step(
    digits: Any,
    make_supernet: Callable[..., Supernet],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    done: bool,
) -> None:
    plain, fallen = make_supernet(), make_supernet()
    trainer(SupernetTrainer, plain, digits).run()
    assert after_failing(digits, fallen, monkeypatch, done=done).steps == STEPS
    assert "not permitted when stream is capturing" in caplog.text
    assert apart(plain, fallen) < 0.05 * apart(plain, make_supernet()), "no step was left out or done twice"


def test_where_compilation_is_wanted_its_failure_is_raised(
    digits: Any, make_supernet: Callable[..., Supernet], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="capturing"):
        after_failing(digits, make_supernet(), monkeypatch, done=False, strict=True)


def test_other_subnets_than_it_was_built_for_are_refused(digits: Any, make_supernet: Callable[..., Supernet]) -> None:
    supernet = make_supernet()
    made = trainer(FastTrainer, supernet, digits)
    images, labels = digits.train.batch(slice(0, 16))
    paths = Sandwich(supernet.space, 0).sample(0)
    with pytest.raises(ValueError, match="other subnets"):
        made._step.run(0, paths, images, labels, 1.0)


def test_a_model_that_reads_weights_is_trained_by_the_plain_step(digits: Any, caplog: pytest.LogCaptureFixture) -> None:
    """BEiT reads the weight of `qkv`, which has no gradient in the fused step."""

    def made() -> Supernet:
        torch.manual_seed(0)
        backbone = timm.create_model("beit_base_patch16_224", num_classes=10, **TINY_VIT)
        return Supernet(backbone, SearchSpace.from_dict({"name": "mine", "choices": {"B": ["none", "lora:2"]}}))

    class Falling(FastTrainer):
        strict = False

    plain, fast = made(), made()
    for kind, net in ((SupernetTrainer, plain), (Falling, fast)):
        trainer(kind, net, digits).run()
    assert apart(plain, fast) == 0
    assert "the backbone reads the weight of a layer" in caplog.text
    start, parameters = made().adapter_parameters(), fast.adapter_parameters()
    assert not torch.equal(parameters["blocks.0.attn.qkv.B.down"], start["blocks.0.attn.qkv.B.down"])


def test_convolutions_are_fused(digits: Any) -> None:
    def made() -> Supernet:
        choices = {"A": ["none", "vector"], "B": ["none", "lora:2"], "C": ["none", "vector"]}
        layers = {"include": ["*"], "types": ["conv2d"]}
        return Supernet(build("resnet"), SearchSpace.from_dict({"name": "mine", "layers": layers, "choices": choices}))

    plain, fast = made(), made()
    losses = [trainer(kind, net, digits).run().loss for kind, net in ((SupernetTrainer, plain), (FastTrainer, fast))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert isinstance(fast.pool, Pool)
    assert apart(plain, fast) < 0.05 * apart(plain, made())
