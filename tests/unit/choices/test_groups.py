"""Factors that a group of layers owns together: what they compute, what they learn from, what they cost."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from support.spaces import all_subnets
from torch import Tensor, nn

from glorasearch.errors import SearchSpaceError
from glorasearch.space import (
    LayerShape,
    SearchSpace,
    Subnet,
    sample,
)
from glorasearch.supernet import Supernet

SCALE = 1.4

LAYERS = {"first": (6, 6), "second": (6, 8), "third": (8, 5), "fourth": (6, 4)}
"""Inputs and outputs; `third` has other inputs and is in no group."""


class Chain(nn.Module):
    """Two branches, so that all four layers can be called."""

    def __init__(self) -> None:
        super().__init__()
        for name, (ins, outs) in LAYERS.items():
            self.add_module(name, nn.Linear(ins, outs))
        self.head = nn.Linear(9, 2)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        layers = dict(self.named_children())
        x = torch.tanh(layers["first"](x))
        branches = [layers["third"](torch.tanh(layers["second"](x))), layers["fourth"](x)]
        logits: Tensor = self.head(torch.cat(branches, dim=-1))
        return logits


def supernet_of(seed: int = 0) -> Supernet:
    """`first`, `second` and `fourth` share, `first` up to a smaller rank; `third` has factors of its own."""
    torch.manual_seed(0)
    space = {
        "name": "shared",
        "layers": {"include": ["*"]},
        "options": {"wegeft": {"scale": SCALE}},
        "choices": {"A": ["none", "vector", "wegeft:2", "wegeft:3"], "B": ["none", "lora:1"]},
        "groups": [
            {"layers": ["first"], "A": ["none", "wegeft:1", "wegeft:2"], "share": "all"},
            {"layers": ["second", "fourth"], "A": ["none", "vector", "wegeft:2", "wegeft:3"], "share": "all"},
        ],
    }
    supernet = Supernet(Chain().double(), SearchSpace.from_dict(space), seed=seed)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in supernet.adapter_parameters().values():
            parameter.normal_(std=0.4, generator=generator)
    return supernet


def expected_weight(supernet: Supernet, name: str, subnet: Subnet) -> Tensor:
    """By the equations, from the parts as they are stored."""
    state = supernet.adapter_state()
    weight = supernet.frozen_state()[f"{name}.weight"]
    prefix = "third.A" if name == "third" else "shared.all.A"
    a, b = subnet[name, "A"], subnet[name, "B"]
    total = weight.clone()
    if a == "vector":
        total += weight * state[f"{name}.A.vector"][:, None]
    if a.startswith("wegeft"):
        rank = int(a[-1])
        total += SCALE * weight @ (state[f"{prefix}.phi"][:, :rank] @ state[f"{prefix}.psi"][:rank])
    if b != "none":
        total += state[f"{name}.B.down"] @ state[f"{name}.B.up"]
    return total


def test_members_hold_one_storage_at_the_largest_rank_of_any_of_them() -> None:
    supernet = supernet_of()
    shapes = {name: tuple(value.shape) for name, value in supernet.adapter_parameters().items() if "p" in name[-3:]}
    assert {name: shape for name, shape in shapes.items() if name.startswith("shared")} == {
        "shared.all.A.phi": (6, 3),
        "shared.all.A.psi": (3, 6),
    }
    names = set(supernet.adapter_parameters())
    assert {"third.A.phi", "third.A.psi"} <= names
    assert not {f"{layer}.A.phi" for layer in ("first", "second", "fourth")} & names


def test_every_subnet_is_exact_whichever_members_are_active() -> None:
    supernet = supernet_of()
    x = torch.randn(3, 6, dtype=torch.float64)
    rng = np.random.default_rng(0)
    actives = set()
    for subnet in [sample(supernet.space, rng) for _ in range(60)]:
        actives.add(tuple(subnet[name, "A"].startswith("wegeft") for name in ("first", "second", "fourth")))
        plain = copy.deepcopy(supernet.model)
        for name in LAYERS:
            layer = nn.Linear(*LAYERS[name]).double()
            layer.weight.data.copy_(expected_weight(supernet, name, subnet))
            layer.bias.data.copy_(supernet.frozen_state()[f"{name}.bias"])
            plain.add_module(name, layer)
        children = dict(plain.named_children())
        ordered = Chain().double()
        ordered.load_state_dict(nn.ModuleDict(children).state_dict())
        expected = ordered(x)
        with torch.no_grad(), supernet.activate(subnet):
            assert (supernet(x) - expected).abs().max() <= 1e-12
        assert (supernet.merged(subnet)(x) - expected).abs().max() <= 1e-12
    assert len(actives) == 8


def test_shared_factors_learn_from_every_active_member() -> None:
    """The gradient of the group is the sum of what each member alone would give; by finite differences too."""
    supernet = supernet_of()
    x = torch.randn(4, 6, dtype=torch.float64)
    shared = [p for name, p in supernet.adapter_parameters().items() if name.startswith("shared")]
    members = ("first", "second", "fourth")
    for active in itertools.product([False, True], repeat=3):
        subnet = supernet.space.smallest().replace(
            {(name, "A"): "wegeft:2" if on else "none" for name, on in zip(members, active, strict=True)}
        )

        def forward(*_: Tensor, subnet: Subnet = subnet) -> Tensor:
            with supernet.activate(subnet):
                return supernet(x)

        assert not any(active) or torch.autograd.gradcheck(forward, tuple(shared))
        # Each member with a copy of the factors of its own, all of one value.
        weights, copies = {}, []
        for name, on in zip(members, active, strict=True):
            phi, psi = (p.detach().clone().requires_grad_() for p in shared)
            W0 = supernet.frozen_state()[f"{name}.weight"]
            weights[f"{name}.weight"] = W0 + SCALE * W0 @ (phi[:, :2] @ psi[:2]) if on else W0
            copies += [(phi, psi)] if on else []
        torch.manual_seed(0)
        plain = Chain().double()
        plain.head.load_state_dict(supernet.model.get_submodule("head").state_dict())
        output = torch.func.functional_call(plain, weights, (x,))
        found = torch.autograd.grad(forward().sin().sum(), shared, allow_unused=True, materialize_grads=True)
        for index in range(2):
            separate = [pair[index] for pair in copies]
            each = torch.autograd.grad(output.sin().sum(), separate, retain_graph=True) if copies else ()
            assert all(bool(gradient.any()) for gradient in each)
            torch.testing.assert_close(found[index], sum(each, torch.zeros_like(found[index])), rtol=0, atol=1e-12)


def test_a_group_is_counted_once_at_its_largest() -> None:
    """The count is the number of elements with a gradient, in every subnet; and by hand."""
    supernet = supernet_of()
    space = supernet.space
    x = torch.randn(7, 6, dtype=torch.float64)
    for subnet in all_subnets(space)[::7]:
        supernet.zero_grad()
        with supernet.activate(subnet):
            supernet(x).sin().sum().backward()
        gradients = [p.grad for p in supernet.adapter_parameters().values() if p.grad is not None]
        assert sum(int((gradient != 0).sum()) for gradient in gradients) == space.parameters(subnet)
    none = space.smallest()
    only = {("first", "A"): "wegeft:2"}
    assert space.parameters(none.replace(only)) == 2 * 6 * 2
    assert space.parameters(none.replace(only | {("fourth", "A"): "wegeft:3"})) == 2 * 6 * 3
    assert space.parameters(none.replace(only | {("third", "A"): "wegeft:3"})) == 2 * 6 * 2 + 2 * 8 * 3


def space_of(**content: Any) -> SearchSpace:
    return SearchSpace.from_dict({"name": "mine", "layers": {"include": ["*"]}} | content)


def test_layers_with_other_inputs_share_with_their_like() -> None:
    layers = [LayerShape(name, *sizes) for name, sizes in LAYERS.items()]
    bound = space_of(choices={}, groups=[{"layers": ["*"], "A": ["none", "wegeft:2"], "share": "all"}]).bind(layers)
    assert {gene.layer: gene.share for gene in bound.genes} == {
        layer.name: f"all-{layer.in_features}" for layer in layers
    }
    assert bound.notices == ("group 'all': its layers have 6, 8 inputs; those with equally many share",)


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(SearchSpaceError, match="the group offers no choice that layers can share"):
        space_of(choices={}, groups=[{"layers": ["*"], "A": ["none", "lora:2"], "share": "all"}])


def test_merged_copied_and_loaded() -> None:
    """Merging does not touch what is shared; a deep copy shares among its own layers, not with the original."""
    supernet = supernet_of()
    state = {name: value.clone() for name, value in supernet.adapter_state().items()}
    subnet = supernet.space.largest()
    merged = supernet.merged(subnet)
    before = [value.clone() for value in merged.state_dict().values()]
    twin = copy.deepcopy(supernet)
    with torch.no_grad():
        for parameter in supernet.adapter_parameters().values():
            parameter.add_(1.0)
    assert all(map(torch.equal, merged.state_dict().values(), before)), "independent of the supernet"
    assert all(torch.equal(value, state[name]) for name, value in twin.adapter_state().items())
    assert all(map(torch.equal, twin.merged(subnet).state_dict().values(), before))
    with torch.no_grad():
        twin.adapter_parameters()["shared.all.A.psi"].zero_()
    weights = {name: twin.merged_layer(name, subnet)[0] for name in ("first", "second", "fourth")}
    for name, weight in weights.items():
        low_rank = state[f"{name}.B.down"] @ state[f"{name}.B.up"]
        torch.testing.assert_close(weight, twin.frozen_state()[f"{name}.weight"] + low_rank)

    other = supernet_of(seed=3).float()
    other.load_adapter_state(state)
    found = other.merged(subnet).state_dict()
    for value, wanted in zip(found.values(), before, strict=True):
        torch.testing.assert_close(value.double(), wanted, rtol=1e-5, atol=1e-5)
