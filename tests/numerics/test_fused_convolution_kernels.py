"""The Triton kernels of convolutions against the equations in plain torch; without a GPU the interpreter runs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.models import Layers
from torch import Tensor, nn

from glorasearch.fused.geometry import Geometry
from glorasearch.fused.gradients import convolution_gradient, merge
from glorasearch.fused.layout import Shape, blank_plan
from glorasearch.fused.pool import pool_of
from glorasearch.space import SearchSpace, sample
from glorasearch.supernet import Supernet

pytest.importorskip("triton")
kernels = pytest.importorskip("glorasearch.fused.factor_gradients")
merge_kernels = pytest.importorskip("glorasearch.fused.merge_kernels")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # without a GPU, conftest.py has turned the interpreter on

FORMS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "by taps": ((20, 24, 3), {"padding": 1}),
    "by taps, many tiles": ((150, 140, (1, 2)), {"padding": (0, 1)}),
    "by taps, strided": ((16, 17, 3), {"padding": 1, "stride": 2}),
    "few channels": ((3, 24, 5), {"padding": 2, "stride": (2, 1)}),
    "few channels, dilated": ((4, 18, (2, 3)), {"dilation": (2, 3), "padding": (1, 0)}),
    "depthwise": ((20, 20, 7), {"groups": 20, "padding": 3}),
    "depthwise, doubled": ((6, 12, (3, 2)), {"groups": 6, "padding": 1, "stride": (1, 2), "dilation": 2}),
    "groups": ((8, 12, 3), {"groups": 4, "padding": 1, "stride": 2}),
}
"""Arguments of a convolution."""
PLANS = {"spectral": [1, 0, 0, 4, 1], "dense": [1, 0, 0, 0, 0], "bias only": [0, 0, 0, 0, 0]}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(("ra", "rb"), [(2, 3), (0, 4)])
@pytest.mark.parametrize("form", FORMS)
def test_gradients(form: str, plan: str, ra: int, rb: int) -> None:
    given, options = FORMS[form]
    conv = nn.Conv2d(*given, **options)  # type: ignore[arg-type]
    geometry = Geometry.of(conv)
    assert not geometry.by_tokens
    outs, ins = conv.weight.flatten(1).shape
    shape = Shape(outs, ins, ra, rb, 40 if plan == "spectral" else 0, spatial=True)
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    x, base, factors = normal(3, conv.in_channels, 7, 9), normal(outs, ins), normal(sum(shape.sizes)) * 0.1
    dy = normal(*conv(x).shape)
    bases = normal(outs, shape.entries), normal(shape.entries, ins)
    if plan == "bias only":
        factors.zero_()
    filters = merge(base[None], factors[None], shape, bases)[0].view_as(conv.weight)
    row = torch.tensor(PLANS[plan], dtype=torch.int32)
    wide = (tensor.double() for tensor in (dy, x, filters, base, factors))
    wanted = convolution_gradient(*wide, row, shape, geometry, (bases[0].double(), bases[1].double()))
    tensors = [tensor.to(DEVICE) for tensor in (dy, x, filters, base, factors, row)]
    there = bases[0].to(DEVICE), bases[1].to(DEVICE)
    found = kernels.convolution_factor_gradient(*tensors, shape, geometry, there).cpu()
    parts = ("scale", "shift", "bias", "left", "right", "spectrum")
    for part, got, expected in zip(parts, shape.split(found), shape.split(wanted), strict=True):
        if plan == "bias only" and part != "bias":
            continue  # nothing reads it, so a kernel may compute it or not
        torch.testing.assert_close(got, expected.float(), rtol=1e-4, atol=2e-3, msg=lambda m, part=part: f"{part}: {m}")


@pytest.mark.parametrize("spatial", [False, True])
def test_merge(spatial: bool) -> None:
    choices = {
        "A": ["none", "constant", "vector", "lora:2"],
        "B": ["none", "constant", "vector", "lora:2"],
        "C": ["none", "vector", "lora:1"],
        "E": ["constant", "vector"],
    }
    convolutions = [nn.Conv2d(6, 9, 2, stride=1 if spatial else 2) for _ in range(2)]
    named = {f"layer{number}": conv.to(DEVICE) for number, conv in enumerate(convolutions)}
    layers = {"include": ["layer*"], "types": ["conv2d"]}
    space = SearchSpace.from_dict({"name": "all", "layers": layers, "choices": choices})
    net = Supernet(Layers(named, nn.Linear(2, 2)).to(DEVICE), space)
    for parameter in net.adapter_parameters().values():
        parameter.data.normal_(std=0.1)
    pool = pool_of(net)
    (bank,), (table,), (parts,) = pool.banks, pool.tables(), pool.stacked(pool.flat)
    assert bank.shape.spatial == spatial
    rng = np.random.default_rng(0)
    for _ in range(8):
        codes = torch.tensor(pool.codes(sample(net.space, rng)), dtype=torch.int32, device=DEVICE)
        wanted = bank.factors(parts, codes)
        weight, b = torch.full_like(bank.base, torch.nan), torch.full((2, 9), torch.nan, device=DEVICE)
        factors = torch.full_like(wanted, torch.nan)
        plan = blank_plan(2, DEVICE).fill_(7)
        merge_kernels.merge_into(bank, pool.flat, table, codes, weight, b, factors, plan, parts=parts)
        torch.testing.assert_close(weight, merge(bank.base, wanted, bank.shape))
        torch.testing.assert_close(b, bank.shape.split(wanted)[2])
        assert plan.tolist() == bank.plan(codes).tolist()
