"""What a choice is: one form of a support tensor, defined by one small class.

A choice is written as a string: `none`, `vector`, `lora:4`, `dash:4:8`. Its class (the part before the colon is the
class's name) says which support tensors allow it, what it stores and how that is initialised, what it contributes to
weight and bias, and what it costs. Everything else (search spaces, counts, sharing, training, merging, export) treats
all choices alike.

The classes import torch inside functions only, since the control plane reads their grammar and their costs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite, prod
from typing import TYPE_CHECKING, ClassVar, Final, Literal, NamedTuple

from glorasearch.errors import SearchSpaceError

if TYPE_CHECKING:
    from torch import Generator, Tensor

SUPPORT_TENSORS: Final = ("A", "B", "C", "D", "E")
"""A scales the weight, B shifts it, C is a prompt seen through it, D scales the bias, E shifts it."""

RATES: Final = ("factor", "vector", "spectrum")
"""The learning-rate groups of parts."""
Kind = Literal["linear", "conv2d", "norm"]
"""What a layer is: a linear layer, a convolution, or a norm with a weight and perhaps a bias per channel."""
Options = Mapping[str, float]
"""The options of a choice class by name, as a search space sets them."""


@dataclass(frozen=True, order=True, slots=True)
class LayerShape:
    """Name and shape of one layer: weight `(out_features, in_features)`, bias `(out_features,)` or none.

    The weight of a convolution is seen as `(out, in / groups · kernel height · kernel width)`, that of a norm as
    `(channels, 1)`.
    """

    name: str
    in_features: int
    out_features: int
    bias: bool = True
    kind: Kind = "linear"
    holds_bias: bool = True
    """Whether there is a place for a bias in the model that timm builds, if this layer gains one."""
    roles: frozenset[str] = field(default=frozenset(), compare=False)
    """What it does in the backbone (`glorasearch.space.roles`); empty if nobody has looked."""

    @property
    def stacked(self) -> int:
        """How many weights of equal shape are stacked in this one: 3 for a fused qkv, else 1."""
        return 3 if self.name.endswith("qkv") and self.out_features % 3 == 0 else 1


class LowRank(NamedTuple):
    """The product `down @ up`: `(..., rows, rank)` times `(..., rank, columns)`."""

    down: Tensor
    up: Tensor

    def dense(self) -> Tensor:
        """The product, `(..., rows, columns)`."""
        return self.down @ self.up


class Dense(NamedTuple):
    """A matrix without a factored form, `(rows, columns)`."""

    matrix: Tensor

    def dense(self) -> Tensor:
        """The matrix."""
        return self.matrix


if TYPE_CHECKING:
    Value = LowRank | Dense | Tensor
    """A product, a matrix, or a vector: a tensor `(..., rows)` or `(..., 1)` with one value per row."""


def as_matrix(value: Value) -> Tensor:
    """A value as a tensor that broadcasts to `(rows, columns)`."""
    return value.dense() if isinstance(value, (LowRank, Dense)) else value.unsqueeze(-1)


def as_vector(value: Value) -> Tensor:
    """A value of one column as a vector `(rows,)`."""
    return value.dense().squeeze(-1) if isinstance(value, (LowRank, Dense)) else value


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a choice adds: `W = W0 + W0⊙scale + shift`, `b = b0 + b0⊙bias_scale + bias_shift + W0·prompt`.

    Scale and shift have the shape `(out, in)`, prompt `(in, 1)`; the others are vectors `(out,)`.
    """

    scale: Value | None = None
    shift: Value | None = None
    prompt: Value | None = None
    bias_scale: Tensor | None = None
    bias_shift: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """Where a choice is used, a support tensor of a layer, and the options of its class."""

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
        """The contribution of a value in the role that GLoRA's equation gives this support tensor."""
        slots = {"A": "scale", "B": "shift", "C": "prompt", "D": "bias_scale", "E": "bias_shift"}
        return Contribution(**{slots[self.tensor]: value})  # type: ignore[arg-type]


LARGEST_WHOLE: Final = 2**53
"""Options are float64, which represents whole numbers exactly up to here."""


def zeros(value: Tensor, generator: Generator) -> None:
    """Initialise a new part with zeros."""


def uniform(value: Tensor, generator: Generator, bound: float) -> None:
    """Initialise a new part uniformly within ±bound."""
    value.uniform_(-bound, bound, generator=generator)


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor that a choice class stores, shared by all its choices in one support tensor."""

    shape: tuple[int, ...]
    start: Callable[[Tensor, Generator], object] = zeros
    """Initialises it in place; it is given a float64 tensor of zeros on the CPU."""
    cut: Mapping[str, int] = field(default_factory=dict)
    """Argument → axis, counted from the end (negative): a choice uses the first entries, as many as its argument."""
    rate: str = "factor"
    """Its kind of learning rate: `factor`, `vector` or `spectrum`."""
    trained: bool = True
    """If not, it is stored with the weights, but has no gradient and is not counted."""


@dataclass(frozen=True, slots=True)
class Choice(ABC):
    """One form of a support tensor: the class, and the values of its arguments."""

    name: ClassVar[str]
    """Of the class, in search spaces: `lora` of `lora:4`."""
    tensors: ClassVar[str]
    """The support tensors that allow it, as letters."""
    norms: ClassVar[str] = ""
    """Those of them that allow it on a norm, which has no weight to be seen through and none to be shifted."""
    arguments: ClassVar[tuple[str, ...]] = ()
    """Names of its arguments, whole numbers, in the order in which they are written: `rank` for `lora:4`."""
    defaults: ClassVar[Options] = {}
    """Its options, which a search space sets in `[options.<name>]`, and their defaults."""
    positive: ClassVar[tuple[str, ...]] = ()
    """The options that must be above zero."""
    whole: ClassVar[Mapping[str, int]] = {}
    """The options that must be whole numbers, and the least that each may be."""
    shareable: ClassVar[bool] = False
    """Whether a group of layers may own its parts together (`share` in a search space)."""
    watches: ClassVar[bool] = False
    """Whether optimiser steps that draw it are counted and passed to `stepped`."""
    restarts: ClassVar[bool] = False
    """Whether `stepped` may discard what was learned, and so change the merged weight."""

    values: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ":".join([self.name, *map(str, self.values)])

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
        """What the choices of this class store, by names that no other class uses, at the `largest` arguments."""

    @classmethod
    @abstractmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """What a choice adds, from its parts (cut to its arguments) and W0, `base (out, in)`; differentiable.

        Parts and base may have one more leading dimension, `(L, ...)`: the same choice in L layers of one shape.
        """

    @classmethod
    def spectrum_size(cls, site: Site) -> int:
        """Entries of the matrix that a coefficient of a spectrum moves: the learning rate is proportional to it."""
        return site.layer.out_features * site.layer.in_features

    @classmethod
    def rate_group(cls, part: Part, site: Site) -> str:
        """The learning-rate group of a part there: spectra have one for each size / scale, which ends its name."""
        if part.rate != "spectrum":
            return part.rate
        return f"{part.rate} {cls.spectrum_size(site) / site.options.get('scale', 1.0):.6g}"

    @classmethod
    def gives_bias(cls, tensor: str) -> bool:
        """Whether, as this support tensor, it gives a bias to a layer that has none."""
        return tensor in "CE"

    def parameters(self, site: Site) -> int:
        """Trainable parameters that it adds."""
        return sum(prod(part.shape) for part in self.parts(site, **self.given).values() if part.trained)

    def stored(self, site: Site) -> int:
        """Numbers stored for it: its trainable parameters and its other parts."""
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
        """Raise `SearchSpaceError` if an option has a value that makes no sense."""
        for name, value in options.items():
            wanted = ""
            if not isfinite(value):
                wanted = "a finite number"
            elif name in cls.positive and value <= 0:
                wanted = "above 0"
            elif name in cls.whole and not (value == int(value) and cls.whole[name] <= value <= LARGEST_WHOLE):
                wanted = f"a whole number from {cls.whole[name]} to 2^53"
            if wanted:
                raise SearchSpaceError(f"options.{cls.name}: {name} is {value:g}; it must be {wanted}")

    @classmethod
    def warming(cls, draws: int, site: Site) -> bool:
        """Whether the warm-up is still running after `draws` draws."""
        return False

    @classmethod
    def stepped(cls, draws: int, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> tuple[str, ...]:
        """Called after the `draws`-th optimiser step that drew a choice of this class; may set parts.

        `parts` are whole, not cut; `base (out, in)` is W0. Returns the parts that were reset: the optimiser drops
        their moments.
        """
        return ()


class Spectral(Choice):
    """A choice whose shift is `left·diag(c)·right` with fixed matrices: the form that the fused paths use."""

    @classmethod
    @abstractmethod
    def bases(cls, parts: Mapping[str, Part], site: Site) -> tuple[Tensor, Tensor]:
        """The fixed matrices, `(out, n)` and `(n, in)`."""

    @classmethod
    @abstractmethod
    def spectrum(cls, parts: Mapping[str, Tensor], site: Site) -> Tensor:
        """c, `(..., n)`."""
