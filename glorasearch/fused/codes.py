"""A path as numbers: the kind and the arguments of every choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from glorasearch.choices import CHOICES
from glorasearch.space import parse_choice

OWN_KINDS: Final = ("none", "constant", "vector", "lora")
"""What the kernels know themselves."""
NONE, CONSTANT, VECTOR, LORA = range(len(OWN_KINDS))
"""Their codes; those of the other kinds follow in the order of the table of choices."""
CODE_WIDTH: Final = 3
"""Numbers that say what a gene draws: the kind's place in the table of choices, and up to two arguments."""


def encode(choices: Sequence[str]) -> list[tuple[int, ...]]:
    """A layer's choices of A to E as kind and arguments, `CODE_WIDTH` numbers each."""
    return [_CODES[choice] if choice in _CODES else _code(choice) for choice in choices]


_CODES: dict[str, tuple[int, ...]] = {}


def _code(choice: str) -> tuple[int, ...]:
    parsed = parse_choice(choice)
    numbers = (list(CHOICES).index(parsed.kind), *parsed.values)
    return _CODES.setdefault(choice, (numbers + (0,) * CODE_WIDTH)[:CODE_WIDTH])
