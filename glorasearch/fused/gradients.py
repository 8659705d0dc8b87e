"""The merge of a bank's weights and the gradient of a layer's factors: the equations, in plain torch.

With `W = W0 ⊙ (1 + scale·1 + P·Q) + shift·1 + D·U + S·diag(c)·T` and `y = x·Wᵀ + bias`, where `left = [P, D]` and
`right = [Q; U]`, c is the spectrum, S and T are fixed, the gradient of the loss in `W` is `G = dyᵀ·x`; with `H = G⊙W0`

    d scale = H·1ᵀ    d shift = G·1ᵀ    d bias = Σ dy    dP = H·Qᵀ    dQ = Pᵀ·H    dD = G·Uᵀ    dU = Dᵀ·G    dx = dy·W
    dc = diag(Sᵀ·G·Tᵀ)

A layer without spectrum and products of A (P, Q, c are zero) does not need the dense G; by associativity, summed over
tokens:

    d shift = dyᵀ·(x·1ᵀ)    d scale = (Σ dy ⊙ y − bias ⊙ d bias − shift ⊙ d shift − (D ⊙ dD)·1ᵀ) / (1 + scale)
    dD = dyᵀ·(x·Uᵀ)         dU = (dy·D)ᵀ·x

that of the scale from `y = (1 + scale) ⊙ x·W0ᵀ + shift·(x·1ᵀ) + x·(D·U)ᵀ + bias`, but for rows in which `1 + scale` is
near zero: these are `hidden` and have their `H·1ᵀ` computed. What is computed for a layer is given by its row of the
plan (`Bank.plan`). The gradient is first raw: where A scales rows, the slot of `d scale` holds `Σ dy ⊙ y`, from which
`settle` computes `d scale` for all layers of a bank at once. With a y in bfloat16 it is as exact as the dense way while
what B adds to a row is not much larger than the scaled row of W0 itself; at thrice its size the error is 1 %, not 0.25.
"""

from __future__ import annotations

import torch
from torch import Tensor

from glorasearch.fused.geometry import Geometry
from glorasearch.fused.layout import DENSE, LEAST_SCALE, PRODUCTS, SCALED, SHIFTED, Shape

Bases = tuple[Tensor, Tensor]
"""S `(out, n)` and T `(n, in)`."""


def merge(base: Tensor, factors: Tensor, shape: Shape, bases: Bases | None = None) -> Tensor:
    """W of every layer of a bank, `(L, out, in)`, from W0 `(L, out, in)` and factors `(L, width)`."""
    scale, shift, _, left, right, spectrum = shape.split(factors)
    ra = shape.scale_rank
    gain = 1 + scale[..., None]
    if ra:
        gain = gain + left[..., :ra] @ right[..., :ra, :]
    weight = base * gain + shift[..., None]
    if shape.shift_rank:
        weight = weight + left[..., ra:] @ right[..., ra:, :]
    if shape.entries:
        assert bases is not None
        weight = weight + (bases[0] * spectrum[..., None, :]) @ bases[1]
    return weight


def dense_gradient(dy: Tensor, x: Tensor, base: Tensor, factors: Tensor, shape: Shape, bases: Bases | None) -> Tensor:
    """The gradient `(width,)` of one layer's factors, computed from G; `dy (N, out)`, `x (N, in)`, `base (out, in)`."""
    return reduced(dy.T @ x, dy.sum(0), base, factors, shape, bases)


def reduced(grad: Tensor, total: Tensor, base: Tensor, factors: Tensor, shape: Shape, bases: Bases | None) -> Tensor:
    """The gradient `(width,)` of one layer's factors from G, `grad (out, in)`, and from Σ dy, `total (out,)`."""
    _, _, _, left, right, _ = shape.split(factors)
    ra = shape.scale_rank
    scaled = grad * base
    parts = [scaled.sum(1), grad.sum(1), total]
    d_left = torch.cat([scaled @ right[:ra].T, grad @ right[ra:].T], dim=1)
    d_right = torch.cat([left[:, :ra].T @ scaled, left[:, ra:].T @ grad])
    d_spectrum = grad.new_zeros(0) if bases is None else (bases[0] * (grad @ bases[1].T)).sum(0)
    return torch.cat([*parts, d_left.flatten(), d_right.flatten(), d_spectrum])


def raw_gradient(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    base: Tensor,
    factors: Tensor,
    plan: Tensor,
    shape: Shape,
    bases: Bases | None = None,
) -> Tensor:
    """The raw gradient `(width,)` of one layer's factors according to its row of the plan, `(6,)`.

    What the plan leaves out is zero: it does not belong to any drawn choice.
    """
    if plan[DENSE]:
        return dense_gradient(dy, x, base, factors, shape, bases)
    zero = dy.new_zeros(shape.out_features)
    seen = zero
    if plan[SCALED]:
        assert y is not None, "a layer that keeps no outputs needs the dense gradient"
        seen = (dy * y).sum(0)
        rows = hidden(factors[: shape.out_features]).nonzero().squeeze(1)
        seen[rows] = ((dy[:, rows].T @ x) * base[rows]).sum(1)
    d_shift = dy.T @ x.sum(1) if plan[SHIFTED] else zero
    _, _, _, left, right, spectrum = shape.split(factors)
    d_left, d_right = torch.zeros_like(left), torch.zeros_like(right)
    if plan[PRODUCTS]:
        ra = shape.scale_rank
        d_left[:, ra:] = dy.T @ (x @ right[ra:].T)
        d_right[ra:] = (dy @ left[:, ra:]).T @ x
    rest = d_left.flatten(), d_right.flatten(), torch.zeros_like(spectrum)
    return torch.cat([seen, d_shift, dy.sum(0), *rest])


def hidden(scale: Tensor) -> Tensor:
    """Rows whose outputs do not show what `x·W0ᵀ` was, because they are scaled by next to nothing."""
    return (1 + scale).abs() < LEAST_SCALE


def convolution_gradient(
    dy: Tensor,
    x: Tensor,
    filters: Tensor,
    base: Tensor,
    factors: Tensor,
    plan: Tensor,
    shape: Shape,
    geometry: Geometry,
    bases: Bases | None = None,
) -> Tensor:
    """The gradient `(width,)` of one spatial layer's factors; `dy (N, out, H', W')`, `x (N, in, H, W)` as it was
    padded ahead, `filters (out, in / groups, height, width)` the merged ones.
    """
    wide = factors.dtype
    total = dy.sum((0, 2, 3), dtype=wide)
    if not plan[DENSE]:
        rest = shape.rank * (shape.out_features + shape.in_features) + shape.entries
        return torch.cat([total.new_zeros(2 * shape.out_features), total, total.new_zeros(rest)])
    grad = geometry.weight_gradient(dy, x, filters).reshape(base.shape).to(wide)
    return reduced(grad, total, base, factors, shape, bases)


def settle(raw: Tensor, factors: Tensor, plan: Tensor, shape: Shape) -> Tensor:
    """The gradients `(L, width)` of a bank's factors from raw ones; `factors (L, width)`, `plan (L, 6)`."""
    scale, shift, bias, left, *_ = shape.split(factors)
    seen, d_shift, d_bias, d_left, *_ = shape.split(raw)
    moved = (left * d_left)[..., shape.scale_rank :].sum(-1)
    d_scale = (seen - bias * d_bias - shift * d_shift - moved) / (1 + scale)
    thin = ((plan[:, SCALED] != 0) & (plan[:, DENSE] == 0))[:, None] & ~hidden(scale)
    d_scale = torch.where(thin, d_scale, seen)
    return torch.cat([d_scale, raw[:, shape.out_features :]], dim=1)
