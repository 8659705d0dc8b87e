"""The launches of `variant_grouped`; Triton is there where CUDA is."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from variant_grouped import ends_of, parts_of

from glorasearch.fused import gradient_kernels
from glorasearch.fused.convolution_kernels import reduce_stored
from glorasearch.fused.gradient_kernels import _row_sums
from glorasearch.fused.gradients import Bases
from glorasearch.fused.kernel_layout import DENSE, SHIFTED
from glorasearch.fused.layout import DENSE as DENSE_COLUMN
from glorasearch.fused.layout import Shape

_sum_tokens = gradient_kernels.sum_tokens


@triton.jit
def _rows(x, sums, plan, tokens, ins, BN: tl.constexpr, BI: tl.constexpr):
    """The sums of the rows of x for a layer that needs them in place of G."""
    if tl.load(plan + DENSE) == 0:  # noqa: SIM102 - the language has no `and` of what is loaded
        if tl.load(plan + SHIFTED) != 0:
            _row_sums(x, sums, tokens, ins, BN, BI)


@functools.cache
def _ends(tokens: int, parts: int, device: torch.device) -> Tensor:
    return torch.tensor(ends_of(tokens, parts), dtype=torch.int32, device=device)


def dense_gradient(
    dy: Tensor,
    x: Tensor,
    base: Tensor,
    factors: Tensor,
    plan: Tensor,
    grad: Tensor,
    sums: Tensor,
    shape: Shape,
    bases: Bases,
) -> None:
    """In place of the product's, with its arguments."""
    tokens, ins = x.shape
    parts = parts_of(*base.shape)
    offsets = _ends(tokens, parts, dy.device) * (plan[DENSE_COLUMN] != 0)
    found = F.grouped_mm(dy.T, x, offs=offsets)
    reduce_stored(found.sum(0) if parts > 1 else found[0], 1, base, factors, plan, grad, shape, bases)
    _rows[(264,)](x, sums, plan, tokens, ins, BN=32, BI=128, num_warps=4)


def sum_all_tokens(dy: Tensor, y: Tensor, sums: Tensor, plan: Tensor | None, grad: Tensor) -> None:
    """In place of the product's: dy is summed for layers that need G, too."""
    if plan is not None:
        plan = torch.where(plan[DENSE_COLUMN] != 0, torch.zeros_like(plan), plan)
    _sum_tokens(dy, y, sums, plan, grad)
