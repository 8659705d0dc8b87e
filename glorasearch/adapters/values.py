"""What a choice adds, as tensors of the form that the equations have."""

from __future__ import annotations

from torch import Tensor

from glorasearch.choices import Dense, LowRank

Value = LowRank | Dense | Tensor
"""A product, a matrix, or a line with one value for every row."""


def as_matrix(value: Value) -> Tensor:
    """A value as something that broadcasts to `(out, in)`: a line has one value for each output row."""
    return value.unsqueeze(-1) if isinstance(value, Tensor) else value.dense()


def as_line(value: Value) -> Tensor:
    """A value of one column as a line `(rows,)`."""
    return value if isinstance(value, Tensor) else value.dense().squeeze(-1)
