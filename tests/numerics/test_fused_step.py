"""The fused step against the plain one: every choice of a layer, and whole steps, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from glorasearch.adapters import AdaptedLinear, offered_choices
from glorasearch.fused import FusedStep, MergedWeights, StepConfig, layout
from glorasearch.fused.bank import banks_of, storages
from glorasearch.fused.gradients import dense_gradient, merge, raw_gradient, settle
from glorasearch.fused.layout import DENSE, EXTRA, SPECTRAL, Shape, encode
from glorasearch.fused.pool import pool_of
from glorasearch.space import SUPPORT_TENSORS, BoundSpace, LayerShape, SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
from glorasearch.training import SampledSubnet, TrainingConfig
from glorasearch.training.optimizer import SupernetOptimizer, peak_rates
from glorasearch.training.plain_step import PlainStep

CHOICES = {
    "A": ["none", "constant", "vector", "lora:1", "lora:3"],
    "B": ["none", "constant", "vector", "lora:2", "lora:4"],
    "C": ["none", "vector", "lora:1", "lora:2"],
    "D": ["none", "constant", "vector"],
    "E": ["none", "constant", "vector"],
}
MORE = {
    "A": ["none", "vector", "lora:2", "wegeft:1", "wegeft:3"],
    "B": ["none", "lora:1", "fourier:2", "fourier:9", "dash:1:3", "dash:2:1", "tsd_init:1", "tsd_init:2", "tsd:2:2"],
    "C": ["none", "vector"],
    "E": ["vector"],
}
"""Choices that are extras on the fused paths."""
RECIPE = TrainingConfig(lr=1e-2, vector_lr=2e-2, spectrum_lr=1e-1, head_lr=3e-3)


def layer_of(
    entangle: str, bias: bool, outs: int, ins: int, choices: dict[str, list[str]] = CHOICES
) -> tuple[AdaptedLinear, BoundSpace]:
    generator = torch.Generator().manual_seed(7)
    shape = LayerShape("layer", ins, outs, bias)
    space = SearchSpace.from_dict(
        {"name": "all", "entangle": entangle, "layers": {"include": ["layer"]}, "choices": choices}
    ).bind([shape])
    base = nn.Linear(ins, outs, bias).double().requires_grad_(False)
    offered = {gene.tensor: offered_choices(space, gene) for gene in space.genes}
    layer = AdaptedLinear(base, offered, entangle=entangle, generator=generator, shared={})
    for parameter in layer.support.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.1
    return layer, space


def all_choices(space: BoundSpace) -> Iterator[tuple[str, ...]]:
    genes = {gene.tensor: gene.choices for gene in space.genes}
    return itertools.product(*(genes.get(tensor, ("none",)) for tensor in SUPPORT_TENSORS))


@pytest.mark.parametrize("thin_from", [0, 217])
@pytest.mark.parametrize("offered", [CHOICES, MORE])
@pytest.mark.parametrize("entangle", ["untied", "reference"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("outs", "ins"), [(7, 5), (4, 6)])
def test_every_choice_merges_and_learns_as_the_plain_layer(
    monkeypatch: pytest.MonkeyPatch, offered: dict[str, list[str]], entangle: str, bias: bool, outs: int, ins: int,
    thin_from: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(layout, "THIN_FROM", thin_from)
    layer, space = layer_of(entangle, bias, outs, ins, offered)
    (bank,) = banks_of({"layer": layer})
    x = torch.randn(9, ins, dtype=torch.float64)
    dy = torch.randn(9, outs, dtype=torch.float64)
    parameters = storages(layer)
    trained = {key: parameter for key, parameter in parameters.items() if parameter.requires_grad}
    bases = bank.extras.left, bank.extras.right
    seen_plans: set[tuple[int, ...]] = set()
    for choices in all_choices(space):
        expected_y = nn.functional.linear(x, layer.merged_weight(choices), layer.merged_bias(choices))
        tied = 0 * sum(parameter.sum() for parameter in trained.values())  # so that undrawn ones have a gradient, zero
        wanted = torch.autograd.grad(expected_y + tied, list(trained.values()), dy)

        codes = torch.tensor([encode(choices)])
        parts = {key: parameter[None] for key, parameter in parameters.items()}
        factors = bank.factors(parts, codes)
        weight, b = merge(bank.base, factors, bank.shape, bases)[0], bank.shape.split(factors[0])[2]
        y = nn.functional.linear(x, weight, b)
        torch.testing.assert_close(y, expected_y, rtol=0, atol=1e-12)

        plan = bank.plan(codes)[0]
        seen_plans.add(tuple(plan.tolist()))
        grad = raw_gradient(dy, x, y.detach(), bank.base[0], factors[0].detach(), plan, bank.shape, bases)
        grad = settle(grad[None], factors.detach(), plan[None], bank.shape)
        found = torch.autograd.grad(factors, list(trained.values()), grad, allow_unused=True)
        carried = bank.storage_gradients(grad, parts, codes) | bank.extra_gradients(grad, parts, codes)
        assert carried.keys() == trained.keys()
        for key, got, expected in zip(trained, found, wanted, strict=True):
            torch.testing.assert_close(carried[key][0], expected, rtol=0, atol=1e-11, msg=f"{choices} {key}")
            got = torch.zeros_like(expected) if got is None else got
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-11, msg=f"{choices} {key}")
    assert {plan[DENSE] for plan in seen_plans} == {0, 1}, "both ways to the gradient were taken"
    assert {bool(plan[EXTRA]) for plan in seen_plans} == {bool(plan[SPECTRAL]) for plan in seen_plans}
    assert any(plan[EXTRA] for plan in seen_plans) == (offered == MORE)


@pytest.mark.parametrize("value", [-1.0, -0.97])
def test_a_scale_that_vanishes_learns_as_the_plain_layer(value: float) -> None:
    """Its outputs do not show what it was multiplied with."""
    layer, _ = layer_of("untied", True, 7, 5)
    (bank,) = banks_of({"layer": layer})
    choices = "vector", "vector", "none", "none", "none"
    parameters = storages(layer)
    parameters["A", "vector"].data[3] = value
    x, dy = torch.randn(9, 5, dtype=torch.float64), torch.randn(9, 7, dtype=torch.float64)
    y = nn.functional.linear(x, layer.merged_weight(choices), layer.merged_bias(choices))
    (wanted,) = torch.autograd.grad(y, parameters["A", "vector"], dy)
    codes = torch.tensor([encode(choices)])
    factors = bank.factors({key: p[None] for key, p in parameters.items()}, codes).detach()
    plan = bank.plan(codes)
    assert plan[0].tolist() == [0, 1, 1, 0, 0, 0]
    raw = raw_gradient(dy, x, y.detach(), bank.base[0], factors[0], plan[0], bank.shape)
    found = bank.shape.split(settle(raw[None], factors, plan, bank.shape))[0][0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_dense_gradient_is_autograds() -> None:
    shape = Shape(6, 4, 2, 3, 5)
    bases = torch.randn(6, 5, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    factors = torch.randn(sum(shape.sizes), dtype=torch.float64).requires_grad_()
    base, x = torch.randn(6, 4, dtype=torch.float64), torch.randn(8, 4, dtype=torch.float64)
    y = nn.functional.linear(x, merge(base[None], factors[None], shape, bases)[0], shape.split(factors)[2])
    dy = torch.randn_like(y)
    (wanted,) = torch.autograd.grad(y, factors, dy)
    torch.testing.assert_close(dense_gradient(dy, x, base, factors.detach(), shape, bases), wanted, rtol=0, atol=1e-12)


def supernets(
    entangle: str, qkv_bias: bool, choices: dict[str, list[str]] = CHOICES, warmup: int = 100
) -> tuple[Supernet, Supernet]:
    torch.manual_seed(0)
    backbone = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=5,
        qkv_bias=qkv_bias,
    ).double()  # fmt: skip
    options = {kind: {"warmup": warmup} for kind in ("dash", "tsd_init", "tsd")}
    shares = any(choice.startswith("wegeft") for choice in choices.get("A", ()))
    groups = [{"layers": ["*.qkv", "*.fc1"], "share": "input"}] if shares else []
    space = SearchSpace.from_dict(
        {"name": "all", "entangle": entangle, "choices": choices, "options": options, "groups": groups}
    )
    first, second = (Supernet(backbone, space, seed=3).train() for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    for one, other in zip(first.adapter_parameters().values(), second.adapter_parameters().values(), strict=True):
        noise = torch.randn(one.shape, generator=generator, dtype=torch.float64) * 0.05
        one.data += noise
        other.data += noise
    return first, second


def plain_step(supernet: Supernet) -> PlainStep:
    optimizer = SupernetOptimizer(supernet, peak_rates(supernet.space, RECIPE), weight_decay=1e-2)
    return PlainStep(supernet, optimizer, mixed=False, label_smoothing=0.1, clip_norm=1.0, seed=0)


def worst(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


@pytest.mark.parametrize("choices", [CHOICES, MORE])
@pytest.mark.parametrize("entangle", ["untied", "reference"])
@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("paths", [(False,), (False, True, True)])
def test_steps_move_what_the_plain_steps_move(
    choices: dict[str, list[str]], entangle: str, qkv_bias: bool, paths: tuple[bool, ...]
) -> None:
    first, second = supernets(entangle, qkv_bias, choices, warmup=2)
    plain = plain_step(first)
    config = StepConfig(paths=paths, weight_decay=1e-2, dtype=torch.float64)
    fused = FusedStep(second, config, loss=partial(CLASSIFY.subnet_loss, smoothing=0.1), teacher=CLASSIFY.teacher_of)
    rng, peaks = np.random.default_rng(0), peak_rates(first.space, RECIPE)
    for number in range(4):
        images = torch.randn(6, 3, 32, 32, dtype=torch.float64)
        labels = torch.randint(0, 5, (6,))
        subnets = [sample(first.space, rng) for _ in paths]
        drawn = [SampledSubnet(subnet, distilled) for subnet, distilled in zip(subnets, paths, strict=True)]
        expected = plain.run(number, drawn, images, labels, 0.5)
        found = fused.run(subnets, images, labels, {group: 0.5 * peak for group, peak in peaks.items()})
        # The plain step adds its losses up in float32.
        torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=1e-6)
        assert worst(plain.state(), fused.optimizer.state()) < 1e-10
        anew = first.warm_ups.step(subnets)
        assert anew == second.warm_ups.step(subnets)
        plain.forget(anew)
        fused.optimizer.forget(anew)
        assert (
            worst(first.adapter_state(), second.adapter_state()) < 1e-6
        )  # AdamW magnifies gradients that are rounding
    assert len(fused.optimizer.state()) > 100


@pytest.mark.parametrize("choice", ["wegeft:2", "fourier:9", "dash:2:1", "tsd_init:2", "tsd:2:2", "lora:2", "vector"])
def test_a_space_of_one_choice_class(choice: str) -> None:
    """Products without a spectrum, and a spectrum without products."""
    first, second = supernets("untied", True, {"A" if "wegeft" in choice else "B": ["none", choice]}, warmup=2)
    plain, peaks = plain_step(first), peak_rates(first.space, RECIPE)
    config = StepConfig(weight_decay=1e-2, dtype=torch.float64)
    fused = FusedStep(second, config, loss=partial(CLASSIFY.subnet_loss, smoothing=0.1), teacher=CLASSIFY.teacher_of)
    images, labels = torch.randn(6, 3, 32, 32, dtype=torch.float64), torch.arange(6) % 5
    for number in range(2):
        plain.run(number, [SampledSubnet(first.space.largest())], images, labels, 1.0)
        fused.run([second.space.largest()], images, labels, peaks)
        assert worst(plain.state(), fused.optimizer.state()) < 1e-10
    assert worst(first.adapter_state(), second.adapter_state()) < 1e-6


def test_either_step_goes_on_with_the_others_state() -> None:
    first, second = supernets("untied", True)
    plain, config = (
        plain_step(first),
        StepConfig(weight_decay=1e-2, dtype=torch.float64),
    )
    fused = FusedStep(second, config, loss=partial(CLASSIFY.subnet_loss, smoothing=0.1), teacher=CLASSIFY.teacher_of)
    rng = np.random.default_rng(4)
    images, labels = torch.randn(6, 3, 32, 32, dtype=torch.float64), torch.randint(0, 5, (6,))
    plain.run(0, [SampledSubnet(sample(first.space, rng))], images, labels, 1.0)
    second.load_adapter_state(first.adapter_state())
    fused.optimizer.load_state(plain.state())
    assert worst(plain.state(), fused.optimizer.state()) == 0
    subnet = sample(first.space, rng)
    plain.run(1, [SampledSubnet(subnet)], images, labels, 1.0)
    fused.run([subnet], images, labels, peak_rates(first.space, RECIPE))
    assert worst(first.adapter_state(), second.adapter_state()) < 1e-6
    plain.load_state(fused.optimizer.state())
    assert worst(plain.state(), fused.optimizer.state()) == 0


def test_a_pool_is_the_supernets_own_memory_until_it_moves() -> None:
    net, _ = supernets("untied", True)
    before = {name: value.clone() for name, value in net.adapter_state().items()}
    pool = pool_of(net)
    assert worst(before, net.adapter_state()) == 0
    pool.flat.add_(1.0)
    assert worst({name: value + 1 for name, value in before.items()}, net.adapter_state()) == 0
    assert pool_of(net) is pool
    net.float()
    assert not pool.valid
    assert pool_of(net) is not pool
    assert isinstance(sample(net.space, np.random.default_rng(0)), Subnet)


def test_layers_that_share_factors_at_different_ranks() -> None:
    """Layers of one shape, one group, other largest ranks: they are no bank."""
    torch.manual_seed(0)
    backbone = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=5
    ).double()
    space = SearchSpace.from_dict(
        {
            "name": "shared",
            "layers": {"include": ["blocks.*.proj"]},
            "choices": {"A": ["none", "wegeft:2", "wegeft:8"]},
            "groups": [
                {"layers": ["*"], "share": "keys"},
                {"layers": ["blocks.0.*"], "A": ["none", "wegeft:2"]},
            ],
        }
    )
    net = Supernet(backbone, space)
    for parameter in net.adapter_parameters().values():
        parameter.data.normal_()
    pool = pool_of(net)
    assert [len(bank) for bank in pool.banks] == [1, 1]
    assert sorted(net.adapter_parameters()) == ["shared.keys.A.phi", "shared.keys.A.psi"]
    merged = MergedWeights(pool, torch.float64, training=False)
    for subnet in (net.space.subnet(choices) for choices in itertools.product(*(g.choices for g in net.space.genes))):
        merged.fill(torch.tensor(pool.codes(subnet), dtype=torch.int32))
        for bank, weights in zip(pool.banks, merged.weights, strict=True):
            wanted, _ = net.merged_layer(bank.names[0], subnet)
            torch.testing.assert_close(weights[0], wanted, rtol=0, atol=1e-12)
