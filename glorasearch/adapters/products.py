"""Linear layers and convolutions that carry support tensors: W as a product with the input."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glorasearch.adapters.base import is_plain
from glorasearch.adapters.layer import AdaptedLayer
from glorasearch.choices import Contribution, Dense, LowRank

if TYPE_CHECKING:
    from glorasearch.choices.base import Value


class AdaptedProduct(AdaptedLayer):
    """Forms W only where it has to.

    Only a scale by a product, or a dense shift, needs the dense weight and its full gradient. A scale of rows of W0
    scales the outputs, products and vectors are added as low-rank and rank-one terms, and the rest is one offset. At a
    scale of 0 the scaled form is exactly the unscaled one, since `y·1 − b·0 = y`.

    A layer of a class derived from torch's, such as a convolution that standardises its weight, always forms it.

    In training `dropout` may drop hidden units: entries of what the second factor of a product makes of the input.
    Where W is formed there are none.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.dropout = nn.Dropout(0.0)
        self._is_plain = is_plain(self.base)

    def _hidden(self, seen: Tensor) -> Tensor:
        return self.dropout(seen) if self.dropout.p else seen

    def _run_with(self, x: Tensor, added: Sequence[Contribution]) -> Tensor:
        bias = self.merge_bias(added)
        scales = [c.scale for c in added if c.scale is not None]
        shifts = [c.shift for c in added if c.shift is not None]
        if self._needs_weight(scales, shifts):
            return self._run(x, self.merge_weight(added), bias)
        return self._run_cheaply(x, bias, scales, shifts)

    def _needs_weight(self, scales: Iterable[Value], shifts: Iterable[Value]) -> bool:
        dense = any(not isinstance(scale, Tensor) for scale in scales) or any(isinstance(s, Dense) for s in shifts)
        return dense or not self._is_plain

    @abstractmethod
    def _run_cheaply(self, x: Tensor, bias: Tensor | None, scales: list[Value], shifts: list[Value]) -> Tensor:
        """The layer's function with W0 scaled by vectors and shifted by products and vectors, without forming W."""


class AdaptedLinear(AdaptedProduct):
    """A linear layer with support tensors: `y = x · Wᵀ + b`, `(..., in)` to `(..., out)`."""

    base: nn.Linear

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias) if self._is_plain else super()._run(x, weight, bias)

    def _run_cheaply(self, x: Tensor, bias: Tensor | None, scales: list[Value], shifts: list[Value]) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        if x.is_contiguous():
            y = F.linear(rows, self.base.weight, bias)
        else:  # as the base layer does it: torch takes another product there, which rounds otherwise
            y = F.linear(x, self.base.weight, bias).reshape(-1, self.out_features)
        if scales:
            # In the scale's own dtype: 1 + a in bfloat16 would lose a small a altogether.
            scale = _sum_vectors(scales)
            scaled = y * (1 + scale) if bias is None else torch.addcmul(-bias * scale, y, 1 + scale)
            y = scaled.to(y.dtype)
        for shift in shifts:
            if isinstance(shift, LowRank):
                _add(y, self._hidden(F.linear(rows, shift.up)), shift.down.t())
            else:
                assert isinstance(shift, Tensor)
                _add(y, rows.sum(-1, keepdim=True), shift.expand(1, y.shape[-1]))
        return y.view(*x.shape[:-1], self.out_features)


class AdaptedConv2d(AdaptedProduct):
    """A convolution with support tensors: the weight is seen as `(out, in / groups · height · width)`.

    `(N, in, H, W)` to `(N, out, H', W')`; the prompt C has one value per tap of a filter. The GLoRA paper does not
    cover convolutions. Batch norms stay in evaluation mode, with the statistics of the backbone.
    """

    base: nn.Conv2d

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self._is_plain:
            return super()._run(x, weight, bias)
        result: Tensor = self.base._conv_forward(x, weight.view_as(self.base.weight), bias)
        return result

    def _needs_weight(self, scales: Iterable[Value], shifts: Iterable[Value]) -> bool:
        """In a grouped convolution a product is not a chain of two convolutions."""
        return super()._needs_weight(scales, shifts) or (self.base.groups > 1 and any(True for _ in shifts))

    def _run_cheaply(self, x: Tensor, bias: Tensor | None, scales: list[Value], shifts: list[Value]) -> Tensor:
        y = self._run(x, self.base.weight, bias)
        if scales:
            scale = _sum_vectors(scales)[:, None, None]
            offset = None if bias is None else -bias[:, None, None] * scale
            y = (y * (1 + scale) if offset is None else torch.addcmul(offset, y, 1 + scale)).to(y.dtype)
        for shift in shifts:
            down, up = shift if isinstance(shift, LowRank) else _repeated(shift, self.in_features)
            seen = self.base._conv_forward(x, up.reshape(-1, *self.base.weight.shape[1:]), None)
            seen = self._hidden(seen) if isinstance(shift, LowRank) else seen
            y = y + F.conv2d(seen, down.expand(self.out_features, -1)[:, :, None, None])
        return y


def _sum_vectors(vectors: list[Value]) -> Tensor:
    total: Tensor | None = None
    for vector in vectors:
        assert isinstance(vector, Tensor)
        total = vector if total is None else total + vector
    assert total is not None
    return total


def _repeated(vector: Value, columns: int) -> LowRank:
    """A vector, repeated in every column, as a product of rank one."""
    assert isinstance(vector, Tensor)
    return LowRank(vector[:, None], vector.new_ones(1, columns))


def _add(y: Tensor, seen: Tensor, factor: Tensor) -> None:
    """Add the product of `seen (N, rank)` and `factor (rank, out)` to `y (N, out)` in place, in one pass over it.

    The factor is laid out as `(rank, out)`, so that autograd computes its gradient as `seenᵀ·g`; with few columns in
    `seen`, a CPU takes six times as long for `gᵀ·seen`, the gradient of a `linear`.
    """
    y.addmm_(seen.to(y.dtype), factor.to(y.dtype).contiguous())
