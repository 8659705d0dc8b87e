"""A linear layer that carries support tensors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glorasearch.adapters.support import LowRank, SupportTensor, Value
from glorasearch.space import SUPPORT_TENSORS, Gene, LayerShape

LayerChoices = tuple[str, str, str, str, str]
"""The choices of one layer for A, B, C, D and E."""


class AdaptedLinear(nn.Module):
    """A frozen `nn.Linear` with every choice of its support tensors (GLoRA, arXiv 2306.07967).

    With `W0 (out, in)`, `b0 (out,)`, `⊙` element-wise and `·` the matrix product, the layer computes

        y = x · Wᵀ + b,    W = W0 + W0⊙A + B,    b = b0 + b0⊙D + E + W0·C

    A is element-wise as in the published code; the paper writes `W0 A`. A layer without a bias has b0 = 0 and no D.
    `choices` names the active form of A to E; None makes it the original layer. It is set by `Supernet.activate` only.

    `base` is the original module, shared and not copied.
    """

    def __init__(
        self, base: nn.Linear, layer: LayerShape, genes: Iterable[Gene], *, entangle: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.base = base
        self.in_features, self.out_features = base.in_features, base.out_features
        self.support = nn.ModuleDict(
            {
                gene.tensor: SupportTensor(
                    gene.tensor, gene.choices, layer, entangle=entangle, generator=generator, like=base.weight
                )
                for gene in genes
            }
        )
        self.choices: LayerChoices | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in)` to `(..., out)`.

        Only A=`lora` needs the dense weight and its full gradient. A=`vector` and A=`constant` scale the outputs (the
        scale of a row of W0 is the scale of an output), B is added as a low-rank or rank-one term, C, D and E are one
        offset. At A = 0 the scaled form is exactly the unscaled one, as `y·1 − b·0 = y`.
        """
        if self.choices is None:
            result: Tensor = self.base(x)
            return result
        a, b, *_ = self._values(self.choices)
        bias = self.merged_bias(self.choices)
        if isinstance(a, LowRank):
            return F.linear(x, self.merged_weight(self.choices), bias)
        rows = x.reshape(-1, self.in_features)
        y = F.linear(rows, self.base.weight, bias)
        if a is not None:
            # In a's own dtype: 1 + a in bfloat16 would lose a small a altogether.
            scaled = y * (1 + a) if bias is None else torch.addcmul(-bias * a, y, 1 + a)
            y = scaled.to(y.dtype)
        if b is not None:
            _shift(y, rows, b)
        return y.view(*x.shape[:-1], self.out_features)

    def merged_weight(self, choices: LayerChoices) -> Tensor:
        """`W0 + W0⊙A + B`, `(out, in)`; W0 itself where A and B are `none`."""
        a, b, *_ = self._values(choices)
        base = self.base.weight
        weight: Tensor = base
        if a is not None:
            weight = torch.addcmul(weight, base, _as_weight(a))
        if b is not None:
            weight = torch.addmm(weight, b.down, b.up) if isinstance(b, LowRank) else weight + _as_weight(b)
        return weight

    def merged_bias(self, choices: LayerChoices) -> Tensor | None:
        """`b0 + b0⊙D + E + W0·C`, `(out,)`; None where there is no b0 and C and E are `none`."""
        _, _, c, d, e = self._values(choices)
        bias: Tensor | None = self.base.bias
        if d is not None:
            assert bias is not None, "bind offers D on layers with a bias only"
            assert not isinstance(d, LowRank)
            bias = torch.addcmul(bias, bias, d)
        if e is not None:
            assert not isinstance(e, LowRank)
            shift = e.expand(self.out_features)
            bias = shift if bias is None else bias + shift
        if c is not None:
            prompt = c.dense().squeeze(-1) if isinstance(c, LowRank) else c
            seen = self.base.weight @ prompt
            bias = seen if bias is None else bias + seen
        return bias

    def active_parameters(self, choices: LayerChoices) -> list[Tensor]:
        """The tensors that a choice of every support tensor trains (views of the storage)."""
        found: list[Tensor] = []
        for value in self._values(choices):
            if value is not None:
                found += value if isinstance(value, LowRank) else [value]
        return found

    def _values(self, choices: LayerChoices) -> list[Value]:
        return [
            None if choice == "none" else self._support(tensor).value(choice)
            for tensor, choice in zip(SUPPORT_TENSORS, choices, strict=True)
        ]

    def _support(self, tensor: str) -> SupportTensor:
        module = self.support[tensor]
        assert isinstance(module, SupportTensor)
        return module


def _shift(y: Tensor, x: Tensor, b: LowRank | Tensor) -> None:
    """Add `x·Bᵀ` to `y (N, out)` in place: one pass over it, whatever the form of B.

    The factor is laid out as `(rank, out)`, since autograd then computes its gradient as `seenᵀ·g`; as `gᵀ·seen`, which
    is the gradient of a `linear`, a CPU needs six times as long for the few columns of `seen`.
    """
    if isinstance(b, LowRank):
        seen, factor = F.linear(x, b.up), b.down.t()
    else:
        seen, factor = x.sum(-1, keepdim=True), b.expand(1, y.shape[-1])
    y.addmm_(seen.to(y.dtype), factor.to(y.dtype).contiguous())


def _as_weight(value: LowRank | Tensor) -> Tensor:
    """A value as something that broadcasts to `(out, in)`: a vector has one value for each output row."""
    return value.dense() if isinstance(value, LowRank) else value.unsqueeze(-1)
