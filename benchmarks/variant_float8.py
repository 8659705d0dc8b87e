"""Products with frozen or merged weights in float8 (e4m3), each row of either side with a scale of its own.

Weights are quantised when they are merged, once for the product with the inputs and, in a step, once for that with the
gradients of the outputs; inputs and gradients when they come. Sums are in float32. Without a GPU's products the same
rounded numbers are multiplied in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from glorasearch.evaluation import captured_model
from glorasearch.fused import MergedWeights, merged, step
from glorasearch.fused.layout import Shape
from glorasearch.fused.linear import fused_linear_gradient

FLOAT8 = torch.float8_e4m3fn
LARGEST = 448.0


class Quantised(NamedTuple):
    """A matrix in float8: `values * scales`."""

    values: Tensor
    """`(..., n, k)`"""
    scales: Tensor
    """`(..., n, 1)`, float32"""


def quantise(x: Tensor) -> Quantised:
    """Rows `(..., n, k)`, each divided by what makes its largest value float8's largest."""
    wide = x.float()
    scales = wide.abs().amax(-1, keepdim=True).clamp(min=1e-12) / LARGEST
    return Quantised((wide / scales).to(FLOAT8), scales)


def product(x: Tensor, weight: Quantised, bias: Tensor | None) -> Tensor:
    """`x·Wᵀ + b` in the type of `x (n, k)`, for W `(m, k)`."""
    own = quantise(x)
    if x.is_cuda:
        return torch._scaled_mm(
            own.values, weight.values.t(), scale_a=own.scales, scale_b=weight.scales.t(), bias=bias,
            out_dtype=torch.bfloat16, use_fast_accum=True,
        )  # fmt: skip
    found = own.values.float() @ weight.values.float().t() * own.scales * weight.scales.t()
    return (found if bias is None else found + bias).to(x.dtype)


class Float8Weights(MergedWeights):
    """Merged weights, and their float8 forms by the address of a layer's weight."""

    places: dict[int, tuple[Quantised, Quantised | None]] = {}  # noqa: RUF012 - of the step that is being made

    def __init__(self, pool: Any, dtype: torch.dtype, *, training: bool) -> None:
        super().__init__(pool, dtype, training=training)
        self.places.clear()
        self._forms: list[tuple[Quantised, Quantised | None]] = []
        self._quantise = torch.compile(_quantise_into, dynamic=False) if pool.flat.is_cuda else _quantise_into
        for weights in self.weights:
            forward = Quantised(*(torch.empty_like(part) for part in quantise(weights)))
            backward = Quantised(*(torch.empty_like(part) for part in quantise(weights.mT))) if training else None
            if backward is not None:  # rows of the transposed matrix lie one after the other
                backward = Quantised(*(part.contiguous() for part in backward))
            self._forms.append((forward, backward))
            for layer, weight in enumerate(weights):
                own = None if backward is None else Quantised(*(part[layer] for part in backward))
                self.places[weight.data_ptr()] = Quantised(*(part[layer] for part in forward)), own

    @torch.no_grad()
    def fill(self, codes: Tensor) -> None:
        """Merge, then quantise all layers."""
        super().fill(codes)
        for weights, (forward, backward) in zip(self.weights, self._forms, strict=True):
            self._quantise(weights, *forward)
            if backward is not None:
                self._quantise(weights.mT, *backward)


def _quantise_into(source: Tensor, values: Tensor, scales: Tensor) -> None:
    for place, found in zip((values, scales), quantise(source), strict=True):
        place.copy_(found)


class Float8MergedLinear(nn.Module):
    """A layer of a candidate."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        self.values, self.scales = Float8Weights.places[weight.data_ptr()][0]
        self.out_features, self.in_features = weight.shape

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in)` to `(..., out)` in the weight's type."""
        flat = x.to(self.weight.dtype).reshape(-1, self.in_features)
        return product(flat, Quantised(self.values, self.scales), self.bias).view(*x.shape[:-1], self.out_features)


class _Product(torch.autograd.Function):
    """The fused layer with float8 products: the gradient of the factors is computed as ever."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, factors: Tensor, values: Tensor, scales: Tensor, back: Tensor, back_scales: Tensor,
        weight: Tensor, bias: Tensor, base: Tensor, plan: Tensor, left: Tensor, right: Tensor, ra: int, rb: int,
        backward8: bool,
    ) -> Tensor:  # fmt: skip
        y = product(x.reshape(-1, x.shape[-1]), Quantised(values, scales), bias).view(*x.shape[:-1], values.shape[0])
        kept = y if Shape(y.shape[-1], x.shape[-1], ra, rb).keeps_output else None
        ctx.save_for_backward(x, kept, factors, back, back_scales, weight, base, plan, left, right)
        ctx.ranks, ctx.backward8 = (ra, rb), backward8
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, y, factors, back, back_scales, weight, base, plan, left, right = ctx.saved_tensors
        grad = fused_linear_gradient(dy, x, y, factors, base, plan, left, right, *ctx.ranks)
        flat = dy.reshape(-1, dy.shape[-1])
        dx = product(flat, Quantised(back, back_scales), None) if ctx.backward8 else flat @ weight
        return dx.view(x.shape), grad, *[None] * 13


class Float8FusedLinear(nn.Module):
    """A layer of a step."""

    backward8 = True

    def __init__(
        self, weight: Tensor, bias: Tensor, factors: Tensor, base: Tensor, plan: Tensor, shape: Shape, bases: Any
    ) -> None:
        super().__init__()
        forward, backward = Float8Weights.places[weight.data_ptr()]
        assert backward is not None
        self._weight, self._own = weight, (*forward, *backward, weight, bias, base, plan, *bases)
        self.factors = factors
        self.in_features, self.out_features = shape.in_features, shape.out_features
        self._ranks = shape.scale_rank, shape.shift_rank

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in)` to `(..., out)` in the merged weight's type."""
        y: Tensor = _Product.apply(x.to(self._weight.dtype), self.factors, *self._own, *self._ranks, self.backward8)
        return y


class _ForwardOnly(Float8FusedLinear):
    backward8 = False


@contextmanager
def float8(*, backward: bool = True) -> Iterator[None]:
    """Steps and candidates that are made here multiply in float8; with `backward` also the gradients of outputs."""
    with ExitStack() as stack:
        for place, name, value in (
            (step, "MergedWeights", Float8Weights),
            (merged, "FusedLinear", Float8FusedLinear if backward else _ForwardOnly),
            (captured_model, "MergedWeights", Float8Weights),
            (merged, "MergedLinear", Float8MergedLinear),
        ):
            stack.enter_context(patch.object(place, name, value))
        yield
