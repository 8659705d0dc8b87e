"""The weights' moving average: its equation, and that it is what a training leaves, measures and resumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import tiny_vit
from support.training import STRATEGIES, FastTrainer, state_of
from torch import Tensor

from glorasearch.data import SearchData
from glorasearch.identity import identity
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, SupernetTrainer, TrainingConfig, TrainingRecord

Build = Callable[..., SupernetTrainer]
MakeSupernet = Callable[..., Supernet]
DIRECTIONS = {"B": ["lora:2", "dash:1:2"]}


class StoppedError(Exception):
    """Ends a training where a signal would."""


def trained(supernet: Supernet) -> dict[str, Tensor]:
    """What is trained, in float64."""
    return {
        name: value.detach().double().clone()
        for name, value in (supernet.adapter_parameters() | supernet.head_parameters()).items()
    }


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    ("kind", "strategy"), [(SupernetTrainer, "uniform"), (SupernetTrainer, "fixed"), (FastTrainer, "uniform")]
)
def test_it_is_what_the_equation_says_and_the_weights_are_as_without_it(
    digits: SearchData, make_supernet: MakeSupernet, kind: type[SupernetTrainer], strategy: str, device: str
) -> None:
    """On a GPU the step is captured, and the average taken beside it."""
    supernet, plain = make_supernet().to(device), make_supernet().to(device)
    config = TrainingConfig(steps=12, batch_size=16, warmup_steps=2)
    average = trained(supernet)
    weights: list[dict[str, Tensor]] = []

    def follow(step: int) -> None:
        decay = min(0.5, step / (9 + step))  # step counts from 1 here
        weights.append(trained(supernet))
        for name, value in weights[-1].items():
            average[name].mul_(decay).add_((1 - decay) * value)

    def train(model: Supernet, recipe: TrainingConfig, **given: Any) -> None:
        kind(model, digits.train, STRATEGIES[strategy](model), recipe, device=device, **given).run()

    train(supernet, config.replace(ema_decay=0.5), on_step=follow)
    train(plain, config)
    assert device == "cuda" or equal(weights[-1], trained(plain)), "the training itself is the same, to the bit"
    assert not equal(weights[-1], trained(supernet))
    for name, value in trained(supernet).items():
        torch.testing.assert_close(value, average[name], rtol=1e-5, atol=1e-7)


def test_probes_measure_the_average_and_leave_the_weights(make_trainer: Build, make_supernet: MakeSupernet) -> None:
    supernet, unprobed = make_supernet(), make_supernet()
    seen: list[dict[str, Tensor]] = []
    raw: list[dict[str, Tensor]] = []

    def probe(given: Supernet) -> dict[str, float]:
        seen.append(trained(given))
        return {"probed": 0.0}

    make_trainer(
        supernet, ema_decay=0.5, probe=probe, probe_every=4, on_step=lambda _: raw.append(trained(supernet))
    ).run()
    make_trainer(unprobed, ema_decay=0.5).run()
    assert len(seen) == 3
    assert equal(seen[-1], trained(supernet))
    assert not equal(seen[0], raw[3])
    assert equal(trained(supernet), trained(unprobed))


@pytest.mark.parametrize("choices", [None, DIRECTIONS])
def test_resumed_is_undisturbed(
    make_trainer: Build, make_supernet: MakeSupernet, tmp_path: Path, choices: dict[str, list[str]] | None
) -> None:
    def supernet() -> Supernet:
        return make_supernet(choices=choices)

    def stop(step: int) -> None:
        if step == 10:
            raise StoppedError

    given: dict[str, Any] = {"ema_decay": 0.7, "checkpoint": tmp_path / "train.safetensors", "checkpoint_every": 4}
    undisturbed, resumed, again = supernet(), supernet(), supernet()
    make_trainer(undisturbed, ema_decay=0.7, checkpoint_every=4).run()
    with pytest.raises(StoppedError):
        make_trainer(supernet(), **given, on_step=stop).run()
    steps: list[int] = []
    make_trainer(resumed, **given, on_step=steps.append).run()
    assert steps[0] == 8
    assert equal(state_of(resumed), state_of(undisturbed))
    make_trainer(again, **given, on_step=steps.append).run()
    assert steps[-1] == 12
    assert equal(state_of(again), state_of(undisturbed)), "a finished training is not averaged twice"


def test_parameters_that_are_initialised_again_begin_anew(digits: SearchData) -> None:
    """LoRA-TSD discards a first product for its directions: no share of it may stay in the average."""
    content = {"name": "tsd", "choices": {"B": ["tsd:1:2"]}, "options": {"tsd": {"warmup": 3}}}
    supernet = Supernet(tiny_vit(), SearchSpace.from_dict(content))
    reset: list[str] = []
    step = supernet.warm_ups.step
    supernet.warm_ups.step = lambda subnets: reset.extend(found := step(subnets)) or found  # type: ignore[method-assign]
    weights: dict[str, Tensor] = {}
    config = TrainingConfig(steps=3, batch_size=8, lr=1e-2, ema_decay=0.9)
    SupernetTrainer(
        supernet,
        digits.train,
        Fixed(supernet.space.largest()),
        config,
        on_step=lambda _: weights.update(trained(supernet)),
    ).run()
    average = trained(supernet)
    assert reset
    assert [name for name in reset if not torch.equal(average[name], weights[name])] == []
    assert not torch.equal(average["head.weight"], weights["head.weight"])


def test_without_a_decay_a_recipe_and_its_checkpoint_are_as_before(make_trainer: Build, tmp_path: Path) -> None:
    assert identity(TrainingConfig(ema_decay=0.0)) == {}
    assert identity(TrainingConfig(ema_decay=0.9)) == {"ema_decay": 0.9}
    rows: list[TrainingRecord] = []
    trainer = make_trainer(checkpoint=tmp_path / "a", on_record=rows.append)
    trainer.run()
    assert trainer._average.state() == {}
