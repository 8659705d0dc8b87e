"""The Triton kernels against the equations in plain torch; without a GPU Triton's interpreter runs them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glorasearch.fused.bank import Shape
from glorasearch.fused.gradients import merge, raw_gradient

pytest.importorskip("triton")
kernels = pytest.importorskip("glorasearch.fused.kernels")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # without a GPU, conftest.py has turned the interpreter on

PLANS = {
    "dense": [1, 0, 0],
    "scaled": [0, 1, 0],
    "shifted": [0, 0, 1],
    "scaled, shifted": [0, 1, 1],
    "bias only": [0, 0, 0],
}


def factors_of(shape: Shape, plan: list[int], generator: torch.Generator) -> Tensor:
    """Random factors, zeros where a layer with this plan has them."""
    factors = torch.randn(sum(shape.sizes), generator=generator) * 0.1
    scale, shift, _, left, _ = shape.split(factors)
    if plan[0]:
        return factors
    left.zero_()
    if not plan[1]:
        scale.zero_()
    if not plan[2]:
        shift.zero_()
    return factors


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("processors", [3, 132])
@pytest.mark.parametrize(("tokens", "outs", "ins", "ra", "rb"), [(150, 144, 80, 4, 4), (70, 40, 150, 2, 3), (70, 40, 30, 0, 4), (70, 40, 30, 3, 0)])  # fmt: skip
def test_gradients(
    monkeypatch: pytest.MonkeyPatch, name: str, processors: int,
    tokens: int, outs: int, ins: int, ra: int, rb: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(kernels, "PROCESSORS", processors)
    shape, plan = Shape(outs, ins, ra, rb), PLANS[name]
    generator = torch.Generator().manual_seed(0)
    factors = factors_of(shape, plan, generator)
    base, x, dy = (torch.randn(*size, generator=generator) for size in ((outs, ins), (tokens, ins), (tokens, outs)))
    y = x @ merge(base[None], factors[None], shape)[0].T + shape.split(factors)[2]
    row = torch.tensor(plan, dtype=torch.int32)
    wanted = raw_gradient(*(t.double() for t in (dy, x, y, base, factors)), row, shape)
    found = kernels.factor_gradient(*(t.to(DEVICE) for t in (dy, x, y, base, factors, row)), shape).cpu()
    for part, got, expected in zip(("scale", "shift", "bias", "left", "right"), shape.split(found), shape.split(wanted), strict=True):  # fmt: skip
        torch.testing.assert_close(got, expected.float(), rtol=1e-4, atol=1e-3, msg=lambda m, part=part: f"{part}: {m}")


@pytest.mark.parametrize(("outs", "ins", "ra", "rb"), [(24, 300, 4, 4), (9, 17, 0, 2), (9, 17, 3, 0)])
def test_merge(outs: int, ins: int, ra: int, rb: int) -> None:
    shape = Shape(outs, ins, ra, rb)
    base, factors = torch.randn(3, outs, ins), torch.randn(3, sum(shape.sizes)) * 0.1
    weight = torch.full((3, outs, ins), torch.nan, device=DEVICE)
    kernels.merge_into(weight, base.to(DEVICE), factors.to(DEVICE), shape)
    torch.testing.assert_close(weight.cpu(), merge(base, factors, shape))
