"""Adapted norms against their equation, in float64: active, merged, and over every class that may be adapted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import Layers, randomise
from timm.layers import norm as timm_norms
from torch import Tensor, nn

from glorasearch.adapters import AdaptedNorm
from glorasearch.evaluation.eager_model import EagerModel
from glorasearch.space import SearchSpace, Subnet
from glorasearch.supernet import Supernet

NORMS: dict[str, Callable[[], nn.Module]] = {
    "layer norm": lambda: nn.LayerNorm(6),
    "without bias": lambda: nn.LayerNorm(6, bias=False),
    "timm's": lambda: timm_norms.LayerNorm(6),
    "of images": lambda: timm_norms.LayerNorm2d(6),
    "in float32": lambda: timm_norms.LayerNormFp32(6),
    "of images in float32": lambda: timm_norms.LayerNorm2dFp32(6),
    "of groups": lambda: nn.GroupNorm(3, 6),
    "timm's of groups": lambda: timm_norms.GroupNorm(6, num_groups=2),
    "of one group": lambda: timm_norms.GroupNorm1(6),
}
OFFERED = {tensor: ["none", "constant", "vector"] for tensor in "ADE"}


def supernet_of(norm: nn.Module, **content: Any) -> Supernet:
    torch.manual_seed(1)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, mean=1.0, std=0.3)
    layers = {"include": ["layer"], "types": ["norm"]}
    space = SearchSpace.from_dict({"name": "norms", "layers": layers, "choices": OFFERED} | content)
    return randomise(Supernet(Layers({"layer": norm}, nn.Linear(2, 2)).double().eval(), space))


def images_for(norm: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    shape = (2, 6, 3, 4) if isinstance(norm, nn.GroupNorm) or "2d" in type(norm).__name__ else (2, 5, 6)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def normalised(norm: Any, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """(x − mean) / √(variance + ε), written out, and the shape in which channels broadcast to it."""
    channels = (1, -1, 1, 1) if x.ndim == 4 else (-1,)
    if isinstance(norm, nn.GroupNorm):
        flat = x.reshape(len(x), norm.num_groups, -1)
        axis = -1
    else:
        flat, axis = x, 1 if x.ndim == 4 else -1
    centred = flat - flat.mean(axis, keepdim=True)
    done = centred / (centred.square().mean(axis, keepdim=True) + norm.eps).sqrt()
    return done.reshape(x.shape), channels


def part(supernet: Supernet, tensor: str, choice: str) -> Tensor | float:
    return 0.0 if choice == "none" else supernet.adapter_state()[f"layer.{tensor}.{choice}"]


def choices_of(supernet: Supernet) -> list[Subnet]:
    genes = supernet.space.genes
    return [supernet.space.subnet(texts) for texts in itertools.product(*(gene.choices for gene in genes))]


@pytest.mark.parametrize("form", NORMS)
def test_every_choice_is_its_equation_and_so_is_the_merged_norm(form: str) -> None:
    norm = NORMS[form]()
    supernet = supernet_of(norm)
    x = images_for(norm)
    hat, channels = normalised(norm, x)
    base: Any = supernet.adapted["layer"].base
    w0, b0 = base.weight, torch.zeros_like(base.weight) if base.bias is None else base.bias
    fast = EagerModel(supernet, "cpu")
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if "float32" in form else {"atol": 1e-12, "rtol": 1e-12}
    for subnet in choices_of(supernet):
        a, d, e = (part(supernet, tensor, subnet["layer", tensor]) for tensor in "ADE")
        expected = (w0 + w0 * a).view(channels) * hat + (b0 + b0 * d + e).view(channels)
        with torch.no_grad(), supernet.activate(subnet):
            torch.testing.assert_close(supernet(x), expected, **tolerance)
        merged = supernet.merged(subnet)
        torch.testing.assert_close(merged(x), expected, **tolerance)
        assert type(merged.get_submodule("layer")) is type(norm)
        with torch.inference_mode():
            fast.write(subnet)
            torch.testing.assert_close(fast.forward(x), expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", NORMS)
def test_gradients_reach_what_is_drawn_and_nothing_else(form: str) -> None:
    norm = NORMS[form]()
    supernet = supernet_of(norm)
    x = images_for(norm)
    hat, _ = normalised(norm, x)
    axes = [axis for axis in range(x.ndim) if axis != (1 if x.ndim == 4 else x.ndim - 1)]
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    drawn = {(gene.layer, gene.tensor): "vector" for gene in supernet.space.genes if gene.tensor != "D"}
    with supernet.activate(supernet.space.smallest().replace(drawn)):
        supernet(x).backward(upstream)
    parts = supernet.adapter_parameters()
    base: Any = supernet.adapted["layer"].base
    tolerance = {"atol": 1e-4, "rtol": 1e-4} if "float32" in form else {"atol": 1e-10, "rtol": 1e-10}
    torch.testing.assert_close(parts["layer.A.vector"].grad, (upstream * hat).sum(axes) * base.weight, **tolerance)
    torch.testing.assert_close(parts["layer.E.vector"].grad, upstream.sum(axes), **tolerance)
    assert parts["layer.A.constant"].grad is None
    assert all(parameter.grad is None for parameter in base.parameters())


@given(st.integers(1, 9), st.integers(1, 4), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_merged_is_active_for_any_width(width: int, tokens: int, bias: bool, seed: int) -> None:
    supernet = supernet_of(nn.LayerNorm(width, bias=bias))
    x = torch.randn(2, tokens, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    subnet = supernet.space.largest()
    with torch.no_grad(), supernet.activate(subnet):
        torch.testing.assert_close(supernet(x), supernet.merged(subnet)(x), atol=1e-12, rtol=1e-12)
    assert supernet.space.parameters(subnet) == width * (3 if bias else 2)


def test_the_start_is_the_backbone_to_the_bit() -> None:
    norm = nn.LayerNorm(6).double()
    space = SearchSpace.from_dict(
        {"name": "x", "layers": {"include": ["*"], "types": ["norm"]}, "choices": {"A": ["vector"], "E": ["vector"]}}
    )
    supernet = Supernet(Layers({"layer": norm}, nn.Linear(2, 2).double()), space)
    x = images_for(norm)
    assert isinstance(supernet.adapted["layer"], AdaptedNorm)
    with supernet.activate(space.bind(supernet.space.layers).largest()):
        assert torch.equal(supernet(x), norm(x))
