"""The gradient of a layer's factors, and the merge of a bank's weights: the equations, in plain torch.

With `W = W0 ⊙ (1 + scale·1 + P·Q) + shift·1 + D·U` and `y = x·Wᵀ + bias`, where `left = [P, D]`, `right = [Q; U]`, the
gradient of the loss in `W` is `G = dyᵀ·x` and, with `H = G ⊙ W0`,

    d scale = H·1ᵀ    d shift = G·1ᵀ    d bias = Σ dy    dP = H·Qᵀ    dQ = Pᵀ·H    dD = G·Uᵀ    dU = Dᵀ·G    dx = dy·W

Only P and Q (A=`lora`) need the dense G. Without them, by associativity and summed over the tokens,

    d shift = dyᵀ·(x·1ᵀ)    dD = dyᵀ·(x·Uᵀ)    dU = (dy·D)ᵀ·x
    d scale = (Σ dy ⊙ y − bias ⊙ d bias − shift ⊙ d shift − (D ⊙ dD)·1ᵀ) / (1 + scale)

the last from `y = (1 + scale) ⊙ x·W0ᵀ + shift·(x·1ᵀ) + (x·Uᵀ)·Dᵀ + bias`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from glorasearch.fused.bank import DENSE, LOW_RANK, SCALED, SHIFTED, Shape


def merge(base: Tensor, factors: Tensor, shape: Shape) -> Tensor:
    """W of every layer of a bank, `(L, out, in)`, from W0 `(L, out, in)` and factors `(L, width)`."""
    scale, shift, _, left, right = shape.split(factors)
    ra = shape.scale_rank
    gain = 1 + scale[..., None]
    if ra:
        gain = gain + left[..., :ra] @ right[..., :ra, :]
    weight = base * gain + shift[..., None]
    return weight + left[..., ra:] @ right[..., ra:, :] if shape.shift_rank else weight


def dense_gradient(dy: Tensor, x: Tensor, base: Tensor, factors: Tensor, shape: Shape) -> Tensor:
    """The gradient `(width,)` of one layer's factors by way of G; `dy (N, out)`, `x (N, in)`, `base (out, in)`."""
    _, _, _, left, right = shape.split(factors)
    ra = shape.scale_rank
    grad = dy.T @ x
    scaled = grad * base
    parts = [scaled.sum(1), grad.sum(1), dy.sum(0)]
    d_left = torch.cat([scaled @ right[:ra].T, grad @ right[ra:].T], dim=1)
    d_right = torch.cat([left[:, :ra].T @ scaled, left[:, ra:].T @ grad])
    return torch.cat([*parts, d_left.flatten(), d_right.flatten()])


def thin_gradient(dy: Tensor, x: Tensor, y: Tensor, factors: Tensor, shape: Shape) -> Tensor:
    """The same without G, for a layer whose A is not a product; that of A's product is left zero."""
    scale, shift, bias, left, right = shape.split(factors)
    ra = shape.scale_rank
    down, up = left[:, ra:], right[ra:]
    d_bias = dy.sum(0)
    d_shift = dy.T @ x.sum(1)
    d_down, d_up = dy.T @ (x @ up.T), (dy @ down).T @ x
    seen = (dy * y).sum(0) - bias * d_bias - shift * d_shift - (down * d_down).sum(1)
    parts = [seen / (1 + scale), d_shift, d_bias]
    d_left = torch.cat([torch.zeros_like(left[:, :ra]), d_down], dim=1)
    d_right = torch.cat([torch.zeros_like(right[:ra]), d_up])
    return torch.cat([*parts, d_left.flatten(), d_right.flatten()])


def reference_gradient(
    dy: Tensor, x: Tensor, y: Tensor, base: Tensor, factors: Tensor, plan: Tensor, shape: Shape
) -> Tensor:
    """The gradient `(width,)` of one layer's factors as its row of the plan, `(4,)`, says.

    What the plan leaves out may be any finite number: nothing that was drawn depends on it.
    """
    if plan[DENSE]:
        return dense_gradient(dy, x, base, factors, shape)
    grad = thin_gradient(dy, x, y, factors, shape)
    scale, shift, _, left, right = shape.split(grad)
    if not plan[SCALED]:
        scale.zero_()
    if not plan[SHIFTED]:
        shift.zero_()
        left.zero_()
    if not plan[LOW_RANK]:
        right.zero_()
    return grad
