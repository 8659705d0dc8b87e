"""Convolutions with merged filters: of a candidate, and those of a step, whose factors are trained."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from glorasearch.fused.geometry import Geometry
from glorasearch.fused.gradients import Bases, convolution_gradient
from glorasearch.fused.layout import Shape
from glorasearch.fused.linear import fused_linear


@torch.library.custom_op("glorasearch::fused_convolution", mutates_args=())
def fused_convolution(
    x: Tensor,
    filters: Tensor,
    factors: Tensor,
    base: Tensor,
    plan: Tensor,
    left: Tensor,
    right: Tensor,
    scale_rank: int,
    shift_rank: int,
    geometry: list[int],
) -> Tensor:
    """A convolution of `x (N, in, H, W)` with merged `filters (out, in / groups, height, width)`; channels last.

    As `fused_linear`, but for the bias, which a compiler adds together with what follows, while cuDNN's convolution
    takes another launch for it; the gradient of the factors has that of the bias all the same. `base (out, in / groups
    · height · width)` is W0 and `geometry` the numbers of a `Geometry`.
    """
    return Geometry.from_numbers(geometry).convolve(x, filters, None)


@fused_convolution.register_fake
def _(
    x: Tensor,
    filters: Tensor,
    factors: Tensor,
    base: Tensor,
    plan: Tensor,
    left: Tensor,
    right: Tensor,
    ra: int,
    rb: int,
    geometry: list[int],
) -> Tensor:
    rows, columns = Geometry.from_numbers(geometry).size_out(x.shape[2], x.shape[3])
    shape = x.shape[0], filters.shape[0], rows, columns
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@torch.library.custom_op("glorasearch::fused_convolution_gradient", mutates_args=())
def fused_convolution_gradient(
    dy: Tensor,
    x: Tensor,
    filters: Tensor,
    factors: Tensor,
    base: Tensor,
    plan: Tensor,
    left: Tensor,
    right: Tensor,
    scale_rank: int,
    shift_rank: int,
    geometry: list[int],
) -> Tensor:
    """The raw gradient of the factors."""
    shape = Shape(base.shape[0], base.shape[1], scale_rank, shift_rank, left.shape[1], spatial=True)
    bases = (left, right) if shape.entries else None
    gradient = convolution_gradient
    if dy.is_cuda:
        from glorasearch.fused.factor_gradients import convolution_factor_gradient  # Triton is there where CUDA is

        gradient = convolution_factor_gradient
    return gradient(dy, x, filters, base, factors, plan, shape, Geometry.from_numbers(geometry), bases)


@fused_convolution_gradient.register_fake
def _(
    dy: Tensor,
    x: Tensor,
    filters: Tensor,
    factors: Tensor,
    base: Tensor,
    plan: Tensor,
    left: Tensor,
    right: Tensor,
    ra: int,
    rb: int,
    geometry: list[int],
) -> Tensor:
    return torch.empty_like(factors)


def _setup(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: Tensor) -> None:
    x, filters, factors, base, plan, left, right, ra, rb, geometry = cast(
        tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int, int, list[int]], inputs
    )
    ctx.save_for_backward(x, filters, factors, base, plan, left, right)
    ctx.numbers = ra, rb, geometry  # type: ignore[attr-defined]


def _backward(ctx: torch.autograd.function.FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, filters, factors, base, plan, left, right = ctx.saved_tensors  # type: ignore[attr-defined]
    ra, rb, geometry = ctx.numbers  # type: ignore[attr-defined]
    grad = fused_convolution_gradient(dy, x, filters, factors, base, plan, left, right, ra, rb, geometry)
    dx = None
    if ctx.needs_input_grad[0]:  # type: ignore[attr-defined]
        dx = Geometry.from_numbers(geometry).input_gradient(dy, x, filters)
    return dx, None, grad, None, None, None, None, None, None, None


fused_convolution.register_autograd(_backward, setup_context=_setup)


class MergedConv2d(nn.Module):
    """A convolution whose filters `(out, in / groups, high, wide)` and bias `(out,)` lie where subnets are merged."""

    def __init__(self, filters: Tensor, bias: Tensor, geometry: Geometry) -> None:
        super().__init__()
        self.weight, self.bias, self._geometry = filters, bias, geometry

    def forward(self, x: Tensor) -> Tensor:
        """`(N, in, H, W)` to `(N, out, H', W')`, channels last, in the filters' dtype."""
        return self._geometry.convolve(self._geometry.padded(x.to(self.weight.dtype)), self.weight, self.bias)


class FusedConv2d(nn.Module):
    """A convolution of the model that a fused step runs, as `FusedLinear`.

    Where the geometry allows it, it is a product with tokens and shares all of that; otherwise a convolution.
    """

    def __init__(
        self,
        weight: Tensor,
        filters: Tensor,
        bias: Tensor,
        factors: Tensor,
        base: Tensor,
        plan: Tensor,
        shape: Shape,
        bases: Bases,
        geometry: Geometry,
    ) -> None:
        """`weight (out, in / groups · height · width)` and `filters (out, in / groups, height, width)` are the same."""
        super().__init__()
        self.left, self.right = bases
        self._weight, self._filters, self._bias = weight, filters, bias
        self.factors, self.base, self.plan = factors, base, plan
        self._ranks, self._geometry = (shape.scale_rank, shape.shift_rank), geometry

    @property
    def weight(self) -> Tensor:
        """Raises: a model that reads the weight of its layers would get no gradient here."""
        raise RuntimeError("the backbone reads the weight of a layer, which in the fused step has no gradient")

    def forward(self, x: Tensor) -> Tensor:
        """`(N, in, H, W)` to `(N, out, H', W')`, channels last, in the merged filters' dtype."""
        geometry = self._geometry
        x = geometry.padded(x.to(self._weight.dtype))
        rest = self.factors, self.base, self.plan, self.left, self.right
        y: Tensor
        if geometry.by_tokens:
            y = fused_linear(geometry.tokens(x), self._weight, self._bias, *rest, *self._ranks)
            return y.permute(0, 3, 1, 2)
        x = x.contiguous(memory_format=torch.channels_last)
        y = fused_convolution(x, self._filters, *rest, *self._ranks, geometry.numbers)
        return y + self._bias[:, None, None]
