"""The forms that a support tensor may take, and what each costs.

A choice is written as a string: `none`, `constant`, `vector`, `lora:4`. This module knows their grammar, which support
tensor allows which of them, and how many trainable parameters each needs; `glorasearch.adapters` knows the arithmetic.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from glorasearch.errors import SearchSpaceError

_RANK: Final = re.compile("[1-9][0-9]{0,5}")

SUPPORT_TENSORS: Final = ("A", "B", "C", "D", "E")
"""A scales the weight, B shifts it, C is a prompt seen through it, D scales the bias, E shifts it."""


@dataclass(frozen=True, order=True, slots=True)
class LayerShape:
    """Name and shape of one linear layer: weight `(out_features, in_features)`, bias `(out_features,)` or none."""

    name: str
    in_features: int
    out_features: int
    bias: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """One form of a support tensor: its kind and, for low-rank forms, its rank (0 otherwise)."""

    kind: str
    rank: int = 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.rank}" if self.rank else self.kind


@dataclass(frozen=True, slots=True)
class Form:
    """What the search space has to know of a kind of choice."""

    tensors: str
    """The support tensors that allow it, as letters."""
    takes_rank: bool
    parameters: Callable[[str, LayerShape, int], int]
    """Trainable parameters of (support tensor, layer, rank)."""


def _lora_parameters(tensor: str, layer: LayerShape, rank: int) -> int:
    if tensor == "C":
        return rank * (layer.in_features + 1)
    return rank * (layer.in_features + layer.out_features)


def _vector_parameters(tensor: str, layer: LayerShape, rank: int) -> int:
    return layer.in_features if tensor == "C" else layer.out_features


FORMS: Final[dict[str, Form]] = {
    "none": Form("ABCDE", False, lambda tensor, layer, rank: 0),
    "constant": Form("ABDE", False, lambda tensor, layer, rank: 1),
    "vector": Form("ABCDE", False, _vector_parameters),
    "lora": Form("ABC", True, _lora_parameters),
}


def _rank_limit(tensor: str, layer: LayerShape) -> int:
    return layer.in_features if tensor == "C" else min(layer.in_features, layer.out_features)


@functools.lru_cache(maxsize=1024)
def parse_choice(text: str) -> Choice:
    """Read a choice such as `vector` or `lora:4`.

    Raises:
        SearchSpaceError: if the kind is unknown, or its rank is missing, superfluous or not a positive integer.
    """
    kind, colon, argument = text.partition(":")
    form = FORMS.get(kind)
    if form is None:
        raise SearchSpaceError(f"unknown choice {text!r}; known are {', '.join(describe_forms())}")
    if not form.takes_rank:
        if colon:
            raise SearchSpaceError(f"choice {text!r}: {kind!r} takes no argument; write {kind!r}")
        return Choice(kind)
    if not _RANK.fullmatch(argument):
        raise SearchSpaceError(f"choice {text!r}: {kind!r} needs a rank, a positive integer; write {kind + ':4'!r}")
    return Choice(kind, int(argument))


def describe_forms(tensor: str | None = None) -> list[str]:
    """The choices that a support tensor allows, as they are written (all of them without a tensor)."""
    return [
        f"{kind}:<rank>" if form.takes_rank else kind
        for kind, form in FORMS.items()
        if tensor is None or tensor in form.tensors
    ]


def check_allowed(tensor: str, choice: Choice) -> None:
    """Raise `SearchSpaceError` if the support tensor does not have that choice."""
    if tensor not in FORMS[choice.kind].tensors:
        allowed = ", ".join(describe_forms(tensor))
        raise SearchSpaceError(f"support tensor {tensor} has no choice {str(choice)!r}; allowed are {allowed}")


def check_rank(tensor: str, choice: Choice, layer: LayerShape) -> None:
    """Raise `SearchSpaceError` if the rank is larger than the layer allows."""
    limit = _rank_limit(tensor, layer)
    if choice.rank > limit:
        raise SearchSpaceError(
            f"choices.{tensor}: {str(choice)!r} has a rank above {limit}, the largest that layer {layer.name} "
            f"({layer.out_features}, {layer.in_features}) allows; use a smaller rank, or other choices for this layer "
            "by a group, or exclude it"
        )


def choice_parameters(tensor: str, choice: Choice, layer: LayerShape) -> int:
    """Number of trainable parameters that a choice adds to a layer."""
    return FORMS[choice.kind].parameters(tensor, layer, choice.rank)
