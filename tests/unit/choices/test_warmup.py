"""The warm-up of an option is counted in optimiser steps that drew it; and it goes on where it was broken off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glorasearch.space import Subnet
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, SampledSubnet, SamplingStrategy, Sandwich, SupernetTrainer, Uniform
from glorasearch.weights import WeightStore, load_checkpoint

MakeSupernet = Callable[..., Supernet]
MakeTrainer = Callable[..., SupernetTrainer]

KINDS = ["dash:2:2", "tsd_init:2", "tsd:2:2"]
OPTIONS = {name: {"warmup": 2} for name in ("dash", "tsd_init", "tsd")}


class Cycle(SamplingStrategy):
    """All layers draw one choice of B, the next one in the next step."""

    def __init__(self, supernet: Supernet, texts: list[str]) -> None:
        self.subnets = [supernet.space.subnet([text] * len(supernet.space.genes)) for text in texts]

    def sample(self, step: int, rank: int = 0) -> list[SampledSubnet]:
        return [SampledSubnet(self.subnets[step % len(self.subnets)])]

    def identity(self) -> str:
        return f"cycle {[subnet.digest for subnet in self.subnets]}"


def parts(supernet: Supernet, name: str) -> dict[str, Tensor]:
    """That part of every layer."""
    return {layer: one.support_of("B").get_parameter(name).detach() for layer, one in supernet.adapted.items()}


def chosen(supernet: Supernet, name: str) -> set[bool]:
    return {bool(value.any()) for value in parts(supernet, name).values()}


def draws(supernet: Supernet, name: str) -> set[int]:
    return {layer.support_of("B").draws[name] for layer in supernet.adapted.values()}


def test_steps_that_drew_the_option_count_and_nothing_else(
    make_supernet: MakeSupernet, make_trainer: MakeTrainer
) -> None:
    supernet = make_supernet({"B": ["none", "lora:1", "dash:1:2", "dash:2:3"]}, options={"dash": {"warmup": 3}})
    strategy = Cycle(supernet, ["dash:1:2", "lora:1", "none", "dash:2:3"])
    image, seen = torch.zeros(1, 1, 14, 14), {}

    def on_step(step: int) -> None:
        seen[step] = chosen(supernet, "dash_left")
        for subnet in strategy.subnets:
            with torch.no_grad(), supernet.activate(subnet):
                supernet(image)

    make_trainer(supernet, strategy, on_step=on_step, steps=9).run()
    assert seen == {step: {step >= 5} for step in range(1, 10)}, "steps 1, 4, 5, 8 and 9 drew dash"
    assert draws(supernet, "dash") == {5}
    for left in parts(supernet, "dash_left").values():
        torch.testing.assert_close(left.T @ left, torch.eye(3), rtol=0, atol=1e-5)


def test_layers_count_for_themselves(make_supernet: MakeSupernet, make_trainer: MakeTrainer) -> None:
    supernet = make_supernet({"B": ["none", "dash:1:1"]}, options={"dash": {"warmup": 4}})
    strategy = Uniform(supernet.space, 3)
    make_trainer(supernet, strategy, steps=9).run()
    drawn = [path.subnet for step in range(9) for path in strategy.sample(step)]
    counts = {layer: sum(subnet[layer, "B"] != "none" for subnet in drawn) for layer in supernet.adapted}
    assert len(set(counts.values())) > 1
    assert {name: layer.support_of("B").draws["dash"] for name, layer in supernet.adapted.items()} == counts
    left = parts(supernet, "dash_left")
    assert {layer: bool(left[layer].any()) for layer in counts} == {layer: n >= 4 for layer, n in counts.items()}


def test_all_paths_of_a_sandwich_are_one_step(make_supernet: MakeSupernet, make_trainer: MakeTrainer) -> None:
    supernet = make_supernet({"B": ["none", "dash:1:1", "dash:2:2"]}, options={"dash": {"warmup": 3}})
    strategy, seen = Sandwich(supernet.space, 0, middle=3), {}
    drawn = [[path.subnet[layer, "B"] for path in strategy.sample(0)] for layer in supernet.adapted]
    assert all(sum(text != "none" for text in texts) > 1 for texts in drawn), "several paths of a step draw it"
    make_trainer(
        supernet, strategy, steps=4, on_step=lambda step: seen.update({step: chosen(supernet, "dash_left")})
    ).run()
    assert seen == {1: {False}, 2: {False}, 3: {True}, 4: {True}}
    assert draws(supernet, "dash") == {4}


@pytest.mark.parametrize(
    ("text", "warmup", "anew"),
    [
        ("dash:2:2", 3, {"dash_gains"}),
        ("tsd_init:2", 3, {"init_down", "init_up"}),
        ("tsd:2:2", 3, {"tsd_down", "tsd_up"}),
        ("tsd:2:2", 6, {"tsd_gains"}),
    ],
)
def test_what_starts_anew_is_new_to_the_optimiser(
    make_supernet: MakeSupernet, make_trainer: MakeTrainer, tmp_path: Path, text: str, warmup: int, anew: set[str]
) -> None:
    """Moments and step counts in the checkpoints of the step that ends the warm-up, and of the one after it."""

    def steps_of(steps: int) -> dict[str, set[int]]:
        supernet = make_supernet({"B": [text]}, options={name: {"warmup": 3} for name in OPTIONS})
        path = tmp_path / f"{steps}.safetensors"
        make_trainer(supernet, Fixed(supernet.space.largest()), steps=steps, checkpoint=path).run()
        found = load_checkpoint(path)
        assert found is not None
        names: dict[str, set[int]] = {}
        for name, value in found[0].items():
            if name.startswith("optimizer/") and name.endswith("/step"):
                names.setdefault(name.split("/")[1].rpartition(".")[2], set()).add(int(value))
        return names

    before, at, after = steps_of(warmup - 1), steps_of(warmup), steps_of(warmup + 1)
    assert before.keys() == after.keys() > anew
    assert before.keys() - at.keys() == anew
    assert {name: after[name] for name in anew} == {name: {1} for name in anew}
    assert all(after[name] == {warmup + 1} for name in ("weight", "bias"))


def test_the_first_step_of_d_is_as_long_as_that_of_any_new_parameter(
    make_supernet: MakeSupernet, make_trainer: MakeTrainer
) -> None:
    """AdamW's first step is the learning rate; moments kept from the warm-up, all zero, would make it another."""
    supernet = make_supernet({"B": ["dash:2:2"]}, options={"dash": {"warmup": 30}}, dtype=torch.float32)
    rows: list[Any] = []
    trainer = make_trainer(supernet, Fixed(supernet.space.largest()), steps=31, record_every=1, on_record=rows.append)
    trainer.run()
    for gains in parts(supernet, "dash_gains").values():
        torch.testing.assert_close(gains.abs(), torch.full((2,), rows[-1].values["lr"]), rtol=1e-2, atol=0)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("killed", [3, 5, 8, 11])
def test_killed_and_resumed(
    make_supernet: MakeSupernet, make_trainer: MakeTrainer, tmp_path: Path, killed: int
) -> None:
    """Each choice is drawn in every third step: directions are chosen in steps 4 to 6, and TSD's own in step 12."""

    def fresh() -> Supernet:
        return make_supernet({"B": KINDS}, options=OPTIONS)

    def kill(step: int) -> None:
        if step == killed:
            raise KilledError

    undisturbed, resumed = fresh(), fresh()
    recipe: dict[str, Any] = {"steps": 14, "checkpoint_every": 2}
    make_trainer(undisturbed, Cycle(undisturbed, KINDS), **recipe).run()
    path, broken = tmp_path / "train.safetensors", fresh()
    with pytest.raises(KilledError):
        make_trainer(broken, Cycle(broken, KINDS), checkpoint=path, on_step=kill, **recipe).run()
    assert chosen(broken, "tsd_left") == {False}
    steps: list[int] = []
    make_trainer(resumed, Cycle(resumed, KINDS), checkpoint=path, on_step=steps.append, **recipe).run()
    assert steps[0] == (killed - 1) // 2 * 2
    for name in ("dash_left", "init_start_down", "tsd_start_down", "tsd_left"):
        assert chosen(resumed, name) == {True}
    found, expected = resumed.adapter_state(), undisturbed.adapter_state()
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def test_through_the_weight_store(make_supernet: MakeSupernet, make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Directions and counts are weights: another supernet that loads them is the same, and goes on the same."""
    trained, fresh = (make_supernet({"B": KINDS}, seed=seed, options=OPTIONS) for seed in (0, 1))
    make_trainer(trained, Cycle(trained, KINDS), steps=6).run()
    store = WeightStore(str(tmp_path))
    fresh.load_adapter_state(store.get(store.put(trained.adapter_state(), {"space": trained.space.digest})).tensors)

    def weights(supernet: Supernet, subnet: Subnet) -> list[Tensor]:
        return list(supernet.merged(subnet).state_dict().values())

    subnets = Cycle(trained, KINDS).subnets
    assert all(draws(fresh, name) == {2} for name in OPTIONS)
    for _ in range(3):  # the second time TSD's own directions are chosen
        for subnet in subnets:
            assert all(map(torch.equal, weights(fresh, subnet), weights(trained, subnet)))
        assert fresh.warm_ups.step(subnets) == trained.warm_ups.step(subnets)
    assert chosen(fresh, "tsd_left") == {True}
    assert all(map(torch.equal, fresh.adapter_state().values(), trained.adapter_state().values()))
