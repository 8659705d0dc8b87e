"""What a choice is: one form of a support tensor, said in one small class.

A choice is written as a string: `none`, `vector`, `lora:4`, `dash:4:8`. Its class says which support tensors allow it,
what it stores and how that starts, what it contributes to weight and bias, and what it costs. Everything else (search
spaces, counts, sharing, training, merging, export) treats all choices alike.

The classes import torch inside functions only, since the control plane reads their grammar and their costs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite, prod
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from glorasearch.errors import SearchSpaceError

if TYPE_CHECKING:
    from torch import Generator, Tensor

SUPPORT_TENSORS: Final = ("A", "B", "C", "D", "E")
"""A scales the weight, B shifts it, C is a prompt seen through it, D scales the bias, E shifts it."""

RATES: Final = ("factor", "vector", "spectrum")
"""The groups of learning rates that a part may have."""
Options = Mapping[str, float]
"""The options of a method by name, as a search space sets them."""


@dataclass(frozen=True, order=True, slots=True)
class LayerShape:
    """Name and shape of one layer: weight `(out_features, in_features)`, bias `(out_features,)` or none.

    The weight of a convolution is seen as `(out, in / groups · kernel height · kernel width)`.
    """

    name: str
    in_features: int
    out_features: int
    bias: bool = True
    convolution: bool = False

    @property
    def stacked(self) -> int:
        """How many weights of one shape lie one above the other in this one: 3 for a fused qkv, else 1."""
        return 3 if self.name.endswith("qkv") and self.out_features % 3 == 0 else 1


class LowRank(NamedTuple):
    """The product `down @ up`: `(..., rows, rank)` times `(..., rank, columns)`."""

    down: Tensor
    up: Tensor

    def dense(self) -> Tensor:
        """The product, `(..., rows, columns)`."""
        return self.down @ self.up


class Dense(NamedTuple):
    """A matrix that has no shorter form, `(rows, columns)`."""

    matrix: Tensor

    def dense(self) -> Tensor:
        """The matrix."""
        return self.matrix


if TYPE_CHECKING:
    Value = LowRank | Dense | Tensor
    """A product, a matrix, or a line: a tensor `(..., rows)` or `(..., 1)` with one value for every row."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a choice adds: `W = W0 + W0⊙scale + shift`, `b = b0 + b0⊙bias_scale + bias_shift + W0·prompt`.

    Scale and shift are as `(out, in)`, prompt as `(in, 1)`, the others are lines of `out` rows.
    """

    scale: Value | None = None
    shift: Value | None = None
    prompt: Value | None = None
    bias_scale: Tensor | None = None
    bias_shift: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """Where a choice sits: a support tensor of a layer; and the options of its method."""

    tensor: str
    layer: LayerShape
    options: Options = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """`out` for A, B, D and E, `in` for C."""
        return self.layer.in_features if self.tensor == "C" else self.layer.out_features

    @property
    def columns(self) -> int:
        """`in` for A and B, 1 for the others."""
        return self.layer.in_features if self.tensor in "AB" else 1

    def role(self, value: Value) -> Contribution:
        """What a value is in the place of the support tensor, by GLoRA's equation."""
        slots = {"A": "scale", "B": "shift", "C": "prompt", "D": "bias_scale", "E": "bias_shift"}
        return Contribution(**{slots[self.tensor]: value})  # type: ignore[arg-type]


LARGEST_WHOLE: Final = 2**53
"""Options are float64: beyond it they would not be the number that was written."""


def zeros(value: Tensor, generator: Generator) -> None:
    """Leave a new part at zero."""


def uniform(value: Tensor, generator: Generator, bound: float) -> None:
    """Fill a new part uniformly within ±bound."""
    value.uniform_(-bound, bound, generator=generator)


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor that a kind of choice stores, shared by all its choices of one support tensor."""

    shape: tuple[int, ...]
    start: Callable[[Tensor, Generator], object] = zeros
    """Fills it in place: a float64 tensor of zeros on the CPU."""
    cut: Mapping[str, int] = field(default_factory=dict)
    """Argument → axis, counted from the end (negative): a choice sees the first entries, as many as it says."""
    rate: str = "factor"
    """The group whose learning rate it has: `factor`, `vector` or `spectrum`."""
    trained: bool = True
    """Otherwise it is kept with the weights, but no gradient reaches it and nobody counts it."""


@dataclass(frozen=True, slots=True)
class Choice(ABC):
    """One form of a support tensor: a kind, given by the class, and the values of its arguments."""

    kind: ClassVar[str]
    """Its name in search spaces."""
    tensors: ClassVar[str]
    """The support tensors that allow it, as letters."""
    arguments: ClassVar[tuple[str, ...]] = ()
    """Names of its whole numbers, in the order in which they are written: `rank` for `lora:4`."""
    defaults: ClassVar[Options] = {}
    """Its options, which a search space may set in `[options.<kind>]`, and their defaults."""
    positive: ClassVar[tuple[str, ...]] = ()
    """The options that must be above zero."""
    whole: ClassVar[Mapping[str, int]] = {}
    """The options that must be whole numbers, and the least that each may be."""
    shareable: ClassVar[bool] = False
    """Whether a group of layers may own its parts together (`share` in a search space)."""
    watches: ClassVar[bool] = False
    """Whether `stepped` wants to be told of optimiser steps."""
    restarts: ClassVar[bool] = False
    """Whether `stepped` may drop what was learned, so that a merged weight is another one after it."""

    values: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ":".join([self.kind, *map(str, self.values)])

    @property
    def given(self) -> dict[str, int]:
        """Its arguments by name."""
        return dict(zip(self.arguments, self.values, strict=True))

    @property
    def rank(self) -> int:
        """Its rank; 0 for a choice that has none."""
        return self.given.get("rank", 0)

    @classmethod
    @abstractmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """What the choices of this kind store, by names that no other kind uses; `largest` are the arguments."""

    @classmethod
    @abstractmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """What a choice adds, from its parts (cut to its arguments) and W0, `base (out, in)`; differentiable.

        Parts and base may have one more dimension in front, `(L, ...)`: the same choice of L layers of one shape.
        """

    def parameters(self, site: Site) -> int:
        """Trainable parameters that it adds."""
        return sum(prod(part.shape) for part in self.parts(site, **self.given).values() if part.trained)

    def stored(self, site: Site) -> int:
        """Numbers that its adapter consists of: its parameters, and what it keeps besides."""
        return sum(prod(part.shape) for part in self.parts(site, **self.given).values())

    def check(self, site: Site) -> None:
        """Raise `SearchSpaceError` if a layer is too small for it."""
        limit = site.rows if site.tensor == "C" else min(site.rows, site.columns)
        self.at_most(site, "rank", limit)

    def at_most(self, site: Site, argument: str, limit: int) -> None:
        """Raise `SearchSpaceError` if an argument is larger than a limit."""
        layer = site.layer
        if self.given.get(argument, 0) > limit:
            plural = argument.endswith("s")
            has, most, use = ("", "most", "fewer") if plural else ("a ", "largest", "a smaller")
            raise SearchSpaceError(
                f"choices.{site.tensor}: {str(self)!r} has {has}{argument} above {limit}, the {most} that layer "
                f"{layer.name} ({layer.out_features}, {layer.in_features}) allows; use {use} {argument}, or other "
                "choices for this layer by a group, or exclude it"
            )

    @classmethod
    def check_options(cls, options: Options) -> None:
        """Raise `SearchSpaceError` if an option has a value with which the method makes no sense."""
        for name, value in options.items():
            wanted = ""
            if not isfinite(value):
                wanted = "a finite number"
            elif name in cls.positive and value <= 0:
                wanted = "above 0"
            elif name in cls.whole and not (value == int(value) and cls.whole[name] <= value <= LARGEST_WHOLE):
                wanted = f"a whole number from {cls.whole[name]} to 2^53"
            if wanted:
                raise SearchSpaceError(f"options.{cls.kind}: {name} is {value:g}; it must be {wanted}")

    def lora_rank(self, tensor: str) -> int | None:
        """The rank of a LoRA adapter (with a bias) that says the same in the place of a support tensor.

        None if there is none, or the class does not say. `AdaptedLayer.as_lora` gives the adapter itself.
        """
        return None

    @classmethod
    def warming(cls, draws: int, site: Site) -> bool:
        """Whether `stepped` still has something to do after so many draws."""
        return False

    @classmethod
    def stepped(cls, draws: int, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> tuple[str, ...]:
        """Called after an optimiser step that drew a choice of this kind, for the `draws`-th time: may set parts.

        `parts` are whole, not cut; `base (out, in)` is W0. Returns the parts that start anew: the optimiser forgets
        their moments.
        """
        return ()


class Spectral(Choice):
    """A choice whose shift is `left·diag(c)·right` with fixed matrices, as the fast paths form it for many layers."""

    @classmethod
    @abstractmethod
    def bases(cls, parts: Mapping[str, Part], site: Site) -> tuple[Tensor, Tensor]:
        """The fixed matrices, `(out, n)` and `(n, in)`."""

    @classmethod
    @abstractmethod
    def spectrum(cls, parts: Mapping[str, Tensor], site: Site) -> Tensor:
        """c, `(..., n)`."""
