"""How a subnet, its factors and its storages are laid out as numbers: the one place for Python and the kernels.

- **Codes** `(layers, 5, CODE_WIDTH)`: for every layer and A to E, the drawn choice class and its arguments.
- **Factors** `(L, width)`: what the choices of a bank's layers amount to, in the layout of `Shape`.
- **Plan** `(L, len(PLAN))`: what each layer's merge and gradient have to compute.
- **Table** `(5, len(PARTS), ENTRY_WIDTH)`: where a bank's storages lie in the flat buffer of a `Pool`.

`kernel_layout` has the same numbers for Triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from glorasearch.choices import CHOICES
from glorasearch.space import parse_choice

OWN_CHOICES: Final = ("none", "constant", "vector", "lora")
"""The choice classes that the kernels implement themselves; all others are `extras`."""
NONE, CONSTANT, VECTOR, LORA = range(len(OWN_CHOICES))
"""Their codes; the other choice classes follow in the order of the table of choices."""
CODE_WIDTH: Final = 3
"""Numbers per gene: the choice class's position in the table of choices, and up to two arguments."""

PARTS: Final = ("down", "up", "vector", "constant")
"""The storages of GLoRA's own forms, as `SupportTensor` names them."""
DOWN, UP, LINE, VALUE = range(len(PARTS))
"""Rows of a table's support tensor: the factors `down` and `up`, the vector, the constant."""
ENTRY_WIDTH: Final = 3
"""Numbers per table entry: the first element in the flat buffer, the strides of layers and of elements."""

DENSE, SCALED, SHIFTED, EXTRA, SPECTRAL, PRODUCTS = range(6)
PLAN: Final = ("dense", "scaled", "shifted", "extra", "spectral", "products")
"""Columns of a plan: whether the dense weight gradient is needed; whether A scales rows and B shifts rows, which
matters only without it; how many columns of extras are in use; whether the spectrum is; whether products shift the
weight."""
THIN: Final = len(PLAN)
"""No column, but the part of a gradient that is needed where the dense one is not."""
PLAN_STRIDE: Final = 8
"""Numbers from one row of a plan to the next: so all rows are aligned, and compiled code copies none."""
THIN_FROM: Final = 217
"""Operations of dense products that a GPU does in the time that it takes to move a byte (650 TFLOP/s, 3 TB/s)."""
THIN_RANK: Final = 15
NARROW_RANK: Final = 31
"""Columns of products for which the tiles of `Shape.thin_products` and `Shape.narrow` fit into 99 KiB of shared memory,
which cards from compute capability 8.0 on have (as compiled for 8.0, 8.9 and 9.0)."""
LEAST_SCALE: Final = 0.05
"""If a row is scaled by less than this, the gradient of its scale is computed from its weights' (`gradients`)."""

SCALE, SHIFT, BIAS = range(3)
"""The vectors `(out,)` with which a layer's factors begin; `left`, `right` and `spectrum` follow."""
LINES: Final = 3
"""How many there are."""


def blank_plan(layers: int, device: torch.device | str) -> Tensor:
    """`(layers, len(PLAN))` int32 of zeros."""
    return torch.zeros(layers, PLAN_STRIDE, dtype=torch.int32, device=device)[:, : len(PLAN)]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the layers of a bank have in common, and so the layout of their factors."""

    out_features: int
    in_features: int
    scale_rank: int
    """Largest rank of A's products."""
    shift_rank: int
    """Largest rank of products that shift the weight: B's `lora`, and the extras."""
    entries: int = 0
    """Coefficients of a spectrum."""
    spatial: bool = False
    """Whether the layers are convolutions that are no products with tokens (`Geometry.by_tokens`)."""

    @property
    def rank(self) -> int:
        """Columns of `left`: A's, then those of the shift."""
        return self.scale_rank + self.shift_rank

    @property
    def keeps_output(self) -> bool:
        """Whether the backward pass may use the layer's outputs, which are then kept in memory.

        Where a layer widens, the following operation (attention, an activation) keeps them anyway; where it narrows,
        they are small compared with the dense gradient that they save.
        """
        return self.out_features != self.in_features and not self.spatial

    @property
    def narrow(self) -> bool:
        """Whether a GPU forms the dense gradient sooner than it reads inputs and output gradients once.

        Then one launch of our own, which reads them once and stores nothing, is faster than a library's product and the
        launches for its sums; else the arithmetic decides, at which the library is better. With more than `NARROW_RANK`
        columns or a spectrum that launch would want too much shared memory.
        """
        fits = max(self.scale_rank, self.shift_rank) <= NARROW_RANK and not self.entries
        return fits and self.out_features * self.in_features <= THIN_FROM * (self.in_features + self.out_features)

    @property
    def thin_products(self) -> bool:
        """Whether the gradient of products that shift the weight does without the dense one.

        It reads the inputs twice and the output gradients once, beside the sums over tokens. That is faster where the
        dense product is bound by arithmetic: where its `2·N·out·in` operations take longer than moving
        `2·N·(2·in + out)` bytes. More than `THIN_RANK` columns are left to the dense one.
        """
        return (
            not self.spatial
            and 0 < self.shift_rank <= THIN_RANK
            and self.out_features * self.in_features > THIN_FROM * (2 * self.in_features + self.out_features)
        )

    @property
    def sizes(self) -> tuple[int, int, int, int, int, int]:
        """Elements of scale, shift, bias, left, right and spectrum in one layer's factors."""
        out = self.out_features
        return out, out, out, out * self.rank, self.rank * self.in_features, self.entries

    def split(self, factors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """`scale`, `shift`, `bias (..., out)`, `left (..., out, r)`, `right (..., r, in)`, `spectrum (..., n)`."""
        lead = factors.shape[:-1]
        scale, shift, bias, left, right, spectrum = torch.split(factors, list(self.sizes), dim=-1)
        left = left.reshape(*lead, self.out_features, self.rank)
        right = right.reshape(*lead, self.rank, self.in_features)
        return scale, shift, bias, left, right, spectrum


def code_of(name: str) -> int:
    """The code of a choice class."""
    return list(CHOICES).index(name)


def encode(choices: Sequence[str]) -> list[tuple[int, ...]]:
    """A layer's choices of A to E as codes, `CODE_WIDTH` numbers each."""
    return [_CODES[choice] if choice in _CODES else _encode(choice) for choice in choices]


_CODES: dict[str, tuple[int, ...]] = {}


def _encode(choice: str) -> tuple[int, ...]:
    parsed = parse_choice(choice)
    numbers = (code_of(parsed.name), *parsed.values)
    return _CODES.setdefault(choice, (numbers + (0,) * CODE_WIDTH)[:CODE_WIDTH])
