"""Convolutions on the fused paths against the plain ones, in float64: layers of any geometry, and whole models."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.conv_models import MODELS, build
from support.convolutions import CHOICES, FORMS, convolution, input_of, supernet_of
from torch import Tensor, nn

from glorasearch.fused import FusedStep, MergedWeights, StepConfig, pool_of, static_model
from glorasearch.fused.bank import storages
from glorasearch.fused.geometry import Geometry
from glorasearch.fused.gradients import settle
from glorasearch.fused.layout import DENSE
from glorasearch.fused.merged import fused_layers
from glorasearch.space import SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
from glorasearch.training import SampledSubnet, TrainingConfig
from glorasearch.training.optimizer import SupernetOptimizer, peak_rates
from glorasearch.training.plain_step import PlainStep

MORE = {
    "A": ["none", "vector", "wegeft:1", "wegeft:2"],
    "B": ["none", "vector", "lora:1", "fourier:5", "dash:1:2", "tsd_init:1", "tsd:1:1"],
    "C": ["none", "lora:1"],
    "D": ["none", "vector"],
    "E": ["none", "vector"],
}
"""Choices that are extras on the fused paths."""
BY_TOKENS = ["pointwise", "pointwise, strided", "patches", "oblong patches"]
RECIPE = TrainingConfig(lr=1e-2, vector_lr=2e-2, spectrum_lr=1e-1, head_lr=3e-3)


class Both:
    """One layer, run as it is while a subnet is active, and as the fused paths run it."""

    def __init__(self, net: Supernet, x: Tensor) -> None:
        self._net, self._x = net, x
        self._pool = pool_of(net)
        (self._bank,) = self._pool.banks
        ((self._name, layer),) = net.adapted.items()
        self._trained = {key: value for key, value in storages(layer).items() if value.requires_grad}
        self.merged = MergedWeights(self._pool, torch.float64, training=True)
        self._leaf = self.merged.factors[0][0].detach().requires_grad_()
        self._fused = fused_layers(self.merged, [[self._leaf]])[self._name]
        self._plain = MergedWeights(self._pool, torch.float64, training=False)
        self._candidate = self._plain.layers()[self._name]

    def compare(self, subnet: Subnet) -> None:
        """Outputs, the gradient of the input and those of all storages."""
        x = self._x.clone().requires_grad_()
        with self._net.activate(subnet):
            wanted = self._net(x)
        dy = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        tied = 0 * sum(value.sum() for value in self._trained.values())  # undrawn ones have a gradient then, zero
        wanted_x, *wanted_parts = torch.autograd.grad(wanted + tied + 0 * x.sum(), [x, *self._trained.values()], dy)

        codes = torch.tensor(self._pool.codes(subnet), dtype=torch.int32)
        self.merged.fill(codes)
        found = self._fused(x)
        close = partial(torch.testing.assert_close, rtol=1e-11, atol=1e-11, msg=lambda m: f"{subnet.to_json()}: {m}")
        close(found, wanted)
        found_x, raw = torch.autograd.grad(found, [x, self._leaf], dy)
        close(found_x, wanted_x)
        bank = self._bank
        grad = settle(raw[None], self.merged.factors[0], self.merged.plans[0], bank.shape)
        (parts,) = self._pool.parts(self._pool.flat)
        carried = bank.storage_gradients(grad, parts, codes) | bank.extra_gradients(grad, parts, codes)
        assert carried.keys() == self._trained.keys()
        for key, expected in zip(self._trained, wanted_parts, strict=True):
            close(carried[key][0], expected)

        self._plain.fill(codes)
        close(self._candidate(x), wanted)

    @property
    def dense(self) -> bool:
        """Whether the subnet that was merged last needs the dense gradient."""
        return bool(self.merged.plans[0][0, DENSE])


@pytest.mark.parametrize("choices", [CHOICES, MORE], ids=["glora", "more"])
@pytest.mark.parametrize("form", FORMS)
def test_every_choice_computes_and_learns_as_the_plain_convolution(form: str, choices: dict[str, list[str]]) -> None:
    """Every pair of a choice of A with one of B, and every choice of the others with some of them."""
    net = supernet_of([convolution(form)], choices, "reference" if form == "groups" else "untied")
    both = Both(net, input_of(convolution(form)))
    genes = {gene.tensor: gene.choices for gene in net.space.genes}
    others = list(itertools.product(*(genes[tensor] for tensor in genes if tensor not in "AB")))
    pairs, rest = itertools.cycle(itertools.product(genes["A"], genes["B"])), itertools.cycle(others)
    seen: set[bool] = set()
    for _ in range(max(len(others), len(genes["A"]) * len(genes["B"]))):
        both.compare(net.space.subnet([*next(pairs), *next(rest)]))
        seen.add(both.dense)
    assert seen == {False, True}, "both ways to the gradient were taken"


@pytest.mark.parametrize("form", FORMS)
def test_what_is_a_product_with_tokens(form: str) -> None:
    assert Geometry.of(convolution(form)).by_tokens == (form in BY_TOKENS)


@st.composite
def convolutions(draw: st.DrawFn) -> nn.Conv2d:
    """Any that torch has, of a few channels."""
    groups = draw(st.integers(1, 3))
    ins, outs = (groups * draw(st.integers(1, 3)) for _ in range(2))
    kernel, stride, dilation, padding = (
        (draw(st.integers(low, high)), draw(st.integers(low, high))) for low, high in ((1, 3), (1, 3), (1, 2), (0, 2))
    )
    mode = draw(st.sampled_from(["zeros", "circular", "reflect", "replicate"]))
    bias = draw(st.booleans())
    torch.manual_seed(draw(st.integers(0, 99)))
    given: Any = "same" if stride == (1, 1) and draw(st.booleans()) else padding
    return nn.Conv2d(ins, outs, kernel, stride, given, dilation, groups, bias, mode)


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.booleans(), st.sampled_from(["untied", "reference"]), st.integers(0, 2**31))
def test_any_convolution(conv: nn.Conv2d, more: bool, entangle: str, seed: int) -> None:
    outs, ins = conv.weight.flatten(1).shape
    assume(min(outs, ins) >= 2 and outs * ins > 5)  # what the choices need
    choices = MORE if more else CHOICES
    net, rng = supernet_of([conv], choices, entangle), np.random.default_rng(seed)
    both = Both(net, input_of(conv, *rng.integers(7, 12, 2).tolist()))
    for subnet in [net.space.largest(), *(sample(net.space, rng) for _ in range(4))]:
        both.compare(subnet)


def test_convolutions_of_one_weight_share_a_bank_unless_their_gradients_differ() -> None:
    torch.manual_seed(0)
    like = partial(nn.Conv2d, 4, 4, 1)
    net = supernet_of([like(), like(stride=2), like(padding=1), nn.Conv2d(4, 4, 2, stride=2), nn.Conv2d(4, 4, 2)])
    assert [bank.names for bank in pool_of(net).banks] == [("layer0", "layer1"), ("layer2",), ("layer3",), ("layer4",)]


SPACE = {
    "name": "all",
    "layers": {"include": ["*"], "types": ["linear", "conv2d"]},
    "options": {kind: {"warmup": 2} for kind in ("dash", "tsd_init", "tsd")},
}


def supernets(name: str, choices: dict[str, list[str]], count: int = 2) -> list[Supernet]:
    """Equal supernets of a toy model, trained a little, as it were."""
    space = SearchSpace.from_dict(SPACE | {"choices": choices})
    backbone = build(name).double()
    found = [Supernet(backbone, space, seed=3).train() for _ in range(count)]
    for net in found:
        generator = torch.Generator().manual_seed(1)
        for parameter in net.adapter_parameters().values():
            parameter.data += torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.05
    return found


def worst(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


@pytest.mark.parametrize("choices", [CHOICES, MORE], ids=["glora", "more"])
@pytest.mark.parametrize("name", MODELS)
def test_steps_of_a_model_move_what_the_plain_steps_move(name: str, choices: dict[str, list[str]]) -> None:
    first, second = supernets(name, choices)
    paths, peaks = (False, True), peak_rates(first.space, RECIPE)
    optimizer = SupernetOptimizer(first, peaks, weight_decay=1e-2)
    plain = PlainStep(first, optimizer, mixed=False, label_smoothing=0.1, clip_norm=1.0, seed=0)
    config = StepConfig(paths=paths, weight_decay=1e-2, dtype=torch.float64)
    fused = FusedStep(second, config, loss=partial(CLASSIFY.subnet_loss, smoothing=0.1), teacher=CLASSIFY.teacher_of)
    statistics = {key: value.clone() for key, value in second.frozen_state().items()}
    rng = np.random.default_rng(0)
    for number in range(3):
        images, labels = torch.randn(4, 1, 32, 32, dtype=torch.float64), torch.randint(0, 10, (4,))
        subnets = [sample(first.space, rng) for _ in paths]
        drawn = [SampledSubnet(subnet, distilled) for subnet, distilled in zip(subnets, paths, strict=True)]
        expected = plain.run(number, drawn, images, labels, 0.5)
        found = fused.run(subnets, images, labels, {group: 0.5 * peak for group, peak in peaks.items()})
        torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=1e-6)  # the plain one adds up in float32
        assert worst(plain.state(), fused.optimizer.state()) < 1e-10
        anew = first.warm_ups.step(subnets)
        assert anew == second.warm_ups.step(subnets)
        plain.forget(anew)
        fused.optimizer.forget(anew)
        assert worst(first.adapter_state(), second.adapter_state()) < 1e-6  # AdamW magnifies rounding
    assert worst(statistics, second.frozen_state()) == 0, "batch norms and all that is frozen stay as they were"


@pytest.mark.parametrize("choices", [CHOICES, MORE], ids=["glora", "more"])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_candidates_of_a_model_score_as_the_merged_ones(name: str, choices: dict[str, list[str]]) -> None:
    (net,) = supernets(name, choices, 1)
    pool = pool_of(net.eval())
    merged = MergedWeights(pool, torch.float64, training=False)
    model = static_model(net, merged.layers(), torch.float64, share_head=False).eval()
    images, rng = torch.randn(4, 1, 32, 32, dtype=torch.float64), np.random.default_rng(0)
    for subnet in [net.space.smallest(), net.space.largest(), *(sample(net.space, rng) for _ in range(6))]:
        merged.fill(torch.tensor(pool.codes(subnet), dtype=torch.int32))
        torch.testing.assert_close(model(images), net.merged(subnet)(images), rtol=1e-10, atol=1e-10)
