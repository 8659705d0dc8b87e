"""One support tensor of one layer: the trainable storage of all its choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from glorasearch.choices import Choice, Contribution, Part, Site, parse_choice
from glorasearch.errors import SearchSpaceError
from glorasearch.space import BoundSpace, Gene

RESERVED: Final = {"down": "lora", "up": "lora", "vector": "vector", "constant": "constant"}
"""Names of parts by which the fused paths recognise GLoRA's own forms, and the choice class that owns each."""
View = tuple[str, tuple[slice | int, ...]]
"""The name of a stored tensor, and the slices of it that a choice uses."""


class OfferedChoice(NamedTuple):
    """A choice class that a support tensor offers."""

    choice_class: type[Choice]
    site: Site
    parts: Mapping[str, Part]
    """At the largest arguments that are offered; `rate` is the learning-rate group of this place."""
    shared: bool
    """Whether the parts belong to a group of layers."""
    largest: tuple[int, ...]
    """The largest arguments that are offered."""


def offered_choices(space: BoundSpace, gene: Gene) -> dict[str, OfferedChoice]:
    """The choice classes that a gene offers, by name."""
    by_name: dict[str, list[Choice]] = {}
    for text in gene.choices:
        choice = parse_choice(text)
        by_name.setdefault(choice.name, []).append(choice)
    offered: dict[str, OfferedChoice] = {}
    for name, choices in by_name.items():
        site, made = space.site(gene, name), type(choices[0])
        largest = {argument: max(choice.given[argument] for choice in choices) for argument in made.arguments}
        parts = {
            part: replace(one, rate=made.rate_group(one, site)) for part, one in made.parts(site, **largest).items()
        }
        shared = bool(gene.share) and made.shareable
        offered[name] = OfferedChoice(made, site, parts, shared, tuple(largest.values()))
    return offered


class Storage(nn.Module):
    """The parts of choices by name, trained or not."""

    @torch.no_grad()
    def __init__(self, parts: Mapping[str, Part], generator: torch.Generator, like: Tensor) -> None:
        """`like` gives device and dtype; `generator` (on the CPU) draws the parts that do not start at zero."""
        super().__init__()
        self.rates = {name: part.rate for name, part in parts.items()}
        self._starts = dict(parts)
        for name, part in parts.items():
            if not name.isidentifier() or hasattr(self, name):
                raise SearchSpaceError(f"a choice has a part {name!r}, which is not a usable name; give it another one")
            value = like.new_empty(part.shape)
            self.register_parameter(name, nn.Parameter(value, requires_grad=part.trained))
        for name, value in self.starts(generator).items():
            self._parameters[name].copy_(value)  # type: ignore[union-attr]

    @torch.no_grad()
    def starts(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Every part at its start, on the CPU, in the dtype that it has; parts themselves stay as they are."""
        found: dict[str, Tensor] = {}
        for name, part in self._starts.items():
            value = torch.zeros(part.shape, dtype=torch.float64)
            part.start(value, generator)
            found[name] = value.to(self._parameters[name].dtype)  # type: ignore[union-attr]
        return found


class SupportTensor(Storage):
    """All choices of one support tensor of a layer; the choices of one class share its parts.

    - `untied`: every choice class has its own parts.
    - `reference`: as in the published code of GLoRA, `vector` is column 0 of the LoRA factor `down` and `constant` its
      first entry (of the vector where there is no `down`), so one column has three roles.

    Every choice is a no-op at the start: the adapted layer is the original one.
    """

    def __init__(
        self,
        offered: Mapping[str, OfferedChoice],
        *,
        entangle: str,
        generator: torch.Generator,
        like: Tensor,
        shared: Storage | None = None,
    ) -> None:
        """Allocate the layer's own parts; `shared` holds those of its group."""
        owners = dict(RESERVED)
        counting = [name for name, choice in offered.items() if choice.choice_class.watches]
        owners |= {f"{name}_draws": "its own count" for name in counting}
        owned: dict[str, Part] = {}
        for name, choice in offered.items():
            for part in choice.parts:
                if owners.setdefault(part, name) != name:
                    raise SearchSpaceError(
                        f"choice {name!r} has a part {part!r}, and so has {owners[part]!r}: rename it"
                    )
            owned |= {} if choice.shared else choice.parts
        self.aliased = entangle == "reference"
        if self.aliased:
            _alias(offered, owned)
        super().__init__(owned, generator, like)
        self._offered = dict(offered)
        self._shared = {} if shared is None else dict(shared.named_parameters())
        self._views: dict[str, tuple[OfferedChoice, dict[str, View]]] = {}
        self.draws = dict.fromkeys(counting, 0)
        """For each choice class that counts them, the optimiser steps that drew one of its choices."""

    @property
    def offered(self) -> Mapping[str, OfferedChoice]:
        """The choice classes that it offers, by name."""
        return self._offered

    @property
    def shared_parts(self) -> dict[str, Tensor]:
        """Its parts that belong to a group of layers, cut to the largest arguments that this layer offers."""
        return {
            name: self._shared[name][tuple(slice(length) for length in part.shape)]
            for choice in self._offered.values()
            if choice.shared
            for name, part in choice.parts.items()
        }

    @torch.no_grad()
    def adds_bias(self, base: Tensor) -> bool:
        """Whether any choice adds to the bias; `base (out, in)` is W0."""
        added = (self.contribution(self.largest(name), base) for name in self._offered if name != "none")
        return any(one.bias_scale is not None or one.bias_shift is not None or one.prompt is not None for one in added)

    def largest(self, name: str) -> str:
        """The choice of a class with the largest arguments that are offered (it may not be offered itself)."""
        offered = self._offered[name]
        return str(offered.choice_class(offered.largest))

    def contribution(self, choice: str, base: Tensor) -> Contribution:
        """What a choice adds to the layer with W0 `base (out, in)`; gradients reach the storage."""
        offered, _ = self.lookup(choice)
        return offered.choice_class.contribution(self.parts(choice), base, offered.site)

    def parts(self, choice: str) -> dict[str, Tensor]:
        """The parts of a choice, cut to its arguments; views."""
        _, views = self.lookup(choice)
        return {name: self._part(source)[cut] for name, (source, cut) in views.items()}

    def stepped(self, name: str, base: Tensor) -> tuple[str, ...]:
        """Count an optimiser step that drew a choice of this class; returns the parts that were reset."""
        if self.draws.get(name, -1) < 0:  # not counted, or held
            return ()
        self.draws[name] += 1
        offered = self._offered[name]
        parts = {part: self._part(part).detach() for part in offered.parts}
        return offered.choice_class.stepped(self.draws[name], parts, base.detach(), offered.site)

    def _part(self, name: str) -> Tensor:
        own = self._parameters.get(name)
        return self._shared[name] if own is None else own

    def lookup(self, text: str) -> tuple[OfferedChoice, dict[str, View]]:
        """The class of a choice as it is offered, and for each of its parts the view that the choice has."""
        found = self._views.get(text)
        if found is None:
            choice = parse_choice(text)
            offered = self._offered[choice.name]
            views: dict[str, View] = {}
            for name, part in offered.parts.items():
                cut = [slice(None)] * len(part.shape)
                for argument, axis in part.cut.items():
                    cut[axis] = slice(choice.given[argument])
                views[name] = name, tuple(cut)
            if self.aliased and choice.name in ("vector", "constant"):
                views = {choice.name: self._aliased(choice.name)}
            found = self._views[text] = offered, views
        return found

    def _aliased(self, name: str) -> View:
        length = slice(1) if name == "constant" else slice(None)
        return ("down", (length, 0)) if "down" in self._parameters else ("vector", (length,))


def _alias(offered: Mapping[str, OfferedChoice], owned: dict[str, Part]) -> None:
    """Leave out the parts that are read from those of another choice class."""
    if owned.pop("constant", None) is not None and "vector" not in owned and "down" not in owned:
        rows = offered["constant"].site.rows
        owned["vector"] = Part((rows,), rate="vector")
    if "down" in owned:
        owned.pop("vector", None)
