"""One support tensor of one layer: the trainable storage of all its choices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from glorasearch.space import LayerShape, parse_choice


class LowRank(NamedTuple):
    """The product `down @ up`: `(rows, rank)` times `(rank, columns)`."""

    down: Tensor
    up: Tensor

    def dense(self) -> Tensor:
        """The product, `(rows, columns)`."""
        return self.down @ self.up


Value = LowRank | Tensor | None
"""What a choice stands for: a product, a vector `(rows,)`, a constant `(1,)`, or nothing."""


class SupportTensor(nn.Module):
    """All choices of one support tensor of a layer, sharing storage as `entangle` says.

    With `rows` and `columns` being `(out, in)` for A and B, `(in, 1)` for C and `(out, -)` for D and E:

    - `down (rows, r)`, zeros, and `up (r, columns)`, Xavier uniform, hold the largest rank; a smaller rank is their
      prefix (arXiv 2306.07967).
    - `untied`: `vector (rows,)` and `constant (1,)` are parameters of their own, zeros at the start.
    - `reference`: as in the published code, `vector` is column 0 of `down` and `constant` its first entry (of the
      vector where there is no `down`), so that one column serves three roles.

    Every choice is zero at the start: the adapted layer is the original one.
    """

    down: nn.Parameter
    up: nn.Parameter
    vector: nn.Parameter
    constant: nn.Parameter

    def __init__(
        self,
        tensor: str,
        choices: Iterable[str],
        layer: LayerShape,
        *,
        entangle: str,
        generator: torch.Generator,
        like: Tensor,
    ) -> None:
        """Allocate the storage; `like` gives its device and dtype, `generator` (on the CPU) draws `up`."""
        super().__init__()
        parsed = [parse_choice(text) for text in choices]
        kinds = {choice.kind for choice in parsed}
        rank = max(choice.rank for choice in parsed)
        rows, columns = _shape(tensor, layer)
        self.aliased = entangle == "reference"
        if rank:
            self.down = nn.Parameter(like.new_zeros(rows, rank))
            bound = (6 / (rank + columns)) ** 0.5
            up = torch.empty(rank, columns, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
            self.up = nn.Parameter(up.to(like))
        needs_vector = "vector" in kinds or (self.aliased and "constant" in kinds)
        if needs_vector and not (self.aliased and rank):
            self.vector = nn.Parameter(like.new_zeros(rows))
        if "constant" in kinds and not self.aliased:
            self.constant = nn.Parameter(like.new_zeros(1))

    def value(self, choice: str) -> Value:
        """The tensors that a choice stands for; views of the storage, so that gradients reach it."""
        kind, rank = (parsed := parse_choice(choice)).kind, parsed.rank
        if kind == "none":
            return None
        if kind == "lora":
            return LowRank(self.down[:, :rank], self.up[:rank])
        if not self.aliased:
            return self.vector if kind == "vector" else self.constant
        column = self.down[:, 0] if hasattr(self, "down") else self.vector
        return column if kind == "vector" else column[:1]


def _shape(tensor: str, layer: LayerShape) -> tuple[int, int]:
    if tensor == "C":
        return layer.in_features, 1
    return layer.out_features, layer.in_features
