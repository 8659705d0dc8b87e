"""Gradients of every choice, by finite differences; and every choice in lower precision."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from glorasearch.supernet import Supernet

FORMS = ("linear", "qkv", "conv with groups", "circular")


def trained(bench: Any, form: str, **content: Any) -> Supernet:
    """Directions chosen, trained parts random."""
    supernet: Supernet = bench.build(form, **content)
    for step in range(2):
        bench.randomise(supernet, seed=10 + step)
        bench.settle(supernet)
    bench.randomise(supernet)
    return supernet


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck(bench: Any, form: str) -> None:
    """Of outputs and merged weight and bias, with respect to trained parts and the layer's input."""
    supernet = trained(bench, form)
    (name,) = supernet.adapted
    layer = bench.layer(supernet)
    x = bench.images(supernet)[:1]
    x = (x[..., :2, :] if x.ndim == 3 else x[..., :5, :4]).clone().requires_grad_()
    for tensor, text, subnet in bench.singles(supernet):
        if text == "none":
            continue
        support = layer.support_of(tensor)
        own = {part: value for part, value in support.named_parameters() if value.requires_grad}
        drawn = [value for part, value in own.items() if part in support.offered[text.partition(":")[0]].parts]
        choices = subnet.layer(name)

        def active(x: Tensor, *_: Tensor, subnet: Any = subnet) -> Tensor:
            with supernet.activate(subnet):
                return supernet(x)

        def merged(*_: Tensor, choices: Any = choices) -> tuple[Tensor, ...]:
            bias = layer.merged_bias(choices)
            return (layer.merged_weight(choices), *([] if bias is None else [bias]))

        assert drawn
        # The part of an untied choice that its arguments cut off has no gradient: finite differences say so too.
        assert torch.autograd.gradcheck(active, (x, *drawn), atol=1e-7, rtol=1e-5), text
        assert torch.autograd.gradcheck(merged, tuple(drawn), atol=1e-7, rtol=1e-5), text


@pytest.mark.parametrize("form", ["linear", "qkv", "conv", "conv with groups"])
def test_autocast_in_bfloat16(bench: Any, form: str) -> None:
    """Outputs and gradients of the active layer are those of float32, to bfloat16's precision."""
    supernet = trained(bench, form, dtype=torch.float32)
    x = bench.images(supernet)
    for _, text, subnet in bench.singles(supernet):
        found = []
        for mixed in (False, True):
            supernet.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed), supernet.activate(subnet):
                y = supernet(x)
            if y.requires_grad:
                y.float().square().sum().backward()
            gradients = {n: p.grad for n, p in supernet.adapter_parameters().items() if p.grad is not None}
            assert all(g.dtype == torch.float32 for g in gradients.values())
            flat = torch.cat([g.flatten() for _, g in sorted(gradients.items())]) if gradients else torch.zeros(1)
            found.append((y.detach().float(), flat))
        for mixed, exact in zip(*reversed(found), strict=True):
            assert (mixed - exact).norm() <= 0.03 * exact.norm(), text


def test_what_a_started_factor_has_learned_survives_bfloat16(bench: Any) -> None:
    """Init and TSD start with factors as large as W0 itself; a change of a thousandth of them is not rounded away."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 48)
    for text, part in (("tsd_init:16", "init_down"), ("tsd:16:1", "tsd_down")):
        supernet = bench.build(copy.deepcopy(layer), {"B": [text]}, dtype=torch.float32)
        bench.randomise(supernet)
        bench.settle(supernet)
        support = bench.layer(supernet).support_of("B")
        with torch.no_grad():
            support.get_parameter(part).add_(torch.randn(48, 16), alpha=1e-3)
        x, subnet = torch.randn(500, 64), supernet.space.largest()
        with torch.no_grad():
            shift = support.contribution(text, bench.layer(supernet).weight_view).shift
            exact = x @ shift.dense().T
            with torch.autocast("cpu", torch.bfloat16):
                found = (x @ shift.up.T) @ shift.down.T
        assert exact.norm() < 0.1 * bench.active(supernet, subnet, x).norm()
        assert (found - exact).norm() <= 0.02 * exact.norm()


@pytest.mark.parametrize("form", ["linear", "conv"])
def test_a_backbone_in_bfloat16(bench: Any, form: str) -> None:
    supernet = bench.build(form, dtype=torch.bfloat16)
    wide = bench.build(form, dtype=torch.float64)
    for step in range(2):
        bench.randomise(supernet, seed=step)
        bench.settle(supernet)
    bench.randomise(supernet, std=0.2)
    wide.load_adapter_state(supernet.adapter_state())
    with torch.no_grad():
        bench.layer(wide).base.weight.copy_(bench.layer(supernet).base.weight)
        if bench.layer(wide).base.bias is not None:
            bench.layer(wide).base.bias.copy_(bench.layer(supernet).base.bias)
    x = bench.images(supernet)
    for _, text, subnet in bench.singles(supernet):
        exact = bench.active(wide, subnet, x.double())
        for found in (bench.active(supernet, subnet, x), supernet.merged(subnet)(x).detach()):
            assert found.dtype == torch.bfloat16
            assert (found.double() - exact).norm() <= 0.03 * exact.norm(), text
