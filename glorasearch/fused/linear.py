"""A linear layer with a merged weight, whose factors are trained."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glorasearch.fused.gradients import Bases, raw_gradient
from glorasearch.fused.layout import Shape


@torch.library.custom_op("glorasearch::fused_linear", mutates_args=())
def fused_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    factors: Tensor,
    base: Tensor,
    plan: Tensor,
    left: Tensor,
    right: Tensor,
    scale_rank: int,
    shift_rank: int,
) -> Tensor:
    """`x·Wᵀ + b` with `x (..., in)`, the merged `weight (out, in)` and `bias (out,)`, and what they were merged from:
    one layer's `factors`, W0 `base`, its row of the plan, and the spectrum's matrices `left (out, n)`, `right (n, in)`.

    Only `x` and `factors` have gradients. That of the factors is raw (`gradients.settle`), and it is the gradient of
    the layer as a function of its factors.
    """
    return F.linear(x, weight, bias)


@fused_linear.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    factors: Tensor,
    base: Tensor,
    plan: Tensor,
    left: Tensor,
    right: Tensor,
    ra: int,
    rb: int,
) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


@torch.library.custom_op("glorasearch::fused_linear_gradient", mutates_args=())
def fused_linear_gradient(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    factors: Tensor,
    base: Tensor,
    plan: Tensor,
    left: Tensor,
    right: Tensor,
    scale_rank: int,
    shift_rank: int,
) -> Tensor:
    """The raw gradient of the factors; `y` is the output, if it is kept.

    The gradient of `x` is a separate product, so that a compiler may recompute `x` together with what follows `dx`.
    """
    shape = Shape(base.shape[0], base.shape[1], scale_rank, shift_rank, left.shape[1])
    bases = (left, right) if shape.entries else None
    flat_dy, flat_x = dy.reshape(-1, shape.out_features), x.reshape(-1, shape.in_features)
    flat_y = None if y is None else y.reshape(-1, shape.out_features)
    if dy.is_cuda:
        from glorasearch.fused.factor_gradients import factor_gradient  # Triton is installed where CUDA is

        return factor_gradient(flat_dy, flat_x, flat_y, base, factors, plan, shape, bases)
    wide = factors.dtype
    wide_y = None if flat_y is None else flat_y.to(wide)
    return raw_gradient(flat_dy.to(wide), flat_x.to(wide), wide_y, base, factors, plan, shape, bases)


@fused_linear_gradient.register_fake
def _(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    factors: Tensor,
    base: Tensor,
    plan: Tensor,
    left: Tensor,
    right: Tensor,
    ra: int,
    rb: int,
) -> Tensor:
    return torch.empty_like(factors)


def _setup(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: Tensor) -> None:
    x, weight, _, factors, base, plan, left, right, ra, rb = cast(
        tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int, int], inputs
    )
    kept = output if Shape(output.shape[-1], x.shape[-1], ra, rb).keeps_output else None
    ctx.save_for_backward(x, kept, weight, factors, base, plan, left, right)  # type: ignore[arg-type]
    ctx.ranks = ra, rb  # type: ignore[attr-defined]


def _backward(ctx: torch.autograd.function.FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, y, weight, factors, base, plan, left, right = ctx.saved_tensors  # type: ignore[attr-defined]
    ra, rb = ctx.ranks  # type: ignore[attr-defined]
    grad = fused_linear_gradient(dy, x, y, factors, base, plan, left, right, ra, rb)
    dx = (dy.reshape(-1, dy.shape[-1]) @ weight).view(x.shape)
    return dx, None, None, grad, None, None, None, None, None, None


fused_linear.register_autograd(_backward, setup_context=_setup)


class FusedLinear(nn.Module):
    """A layer of the model that a fused step runs: all its tensors are views of buffers that the step fills first."""

    def __init__(
        self, weight: Tensor, bias: Tensor, factors: Tensor, base: Tensor, plan: Tensor, shape: Shape, bases: Bases
    ) -> None:
        super().__init__()
        self.left, self.right = bases
        self._weight, self._bias, self.factors, self.base, self.plan = weight, bias, factors, base, plan
        self.in_features, self.out_features = shape.in_features, shape.out_features
        self._ranks = shape.scale_rank, shape.shift_rank

    @property
    def weight(self) -> Tensor:
        """Raises: a model that reads the weight of its layers would get no gradient here."""
        raise RuntimeError("the backbone reads the weight of a layer, which in the fused step has no gradient")

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in)` to `(..., out)` in the merged weight's dtype."""
        x = x.to(self._weight.dtype)
        y: Tensor = fused_linear(
            x, self._weight, self._bias, self.factors, self.base, self.plan, self.left, self.right, *self._ranks
        )
        return y
