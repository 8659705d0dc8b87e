"""One support tensor of one layer: the trainable storage of all its choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from glorasearch.choices import Choice, Contribution, Part, Site, parse_choice
from glorasearch.errors import SearchSpaceError
from glorasearch.space import BoundSpace, Gene

RESERVED: Final = {"down": "lora", "up": "lora", "vector": "vector", "constant": "constant"}
"""Parts by which the fast paths know GLoRA's own forms, and whose they are."""


class Method(NamedTuple):
    """A kind of choice that a support tensor offers."""

    choice: type[Choice]
    site: Site
    parts: Mapping[str, Part]
    """At the largest arguments that are offered."""
    shared: bool
    """Whether the parts belong to a group of layers."""
    largest: tuple[int, ...]
    """The largest arguments that are offered."""


def methods_of(space: BoundSpace, gene: Gene) -> dict[str, Method]:
    """The kinds of choices that a gene offers."""
    offered: dict[str, list[Choice]] = {}
    for text in gene.choices:
        choice = parse_choice(text)
        offered.setdefault(choice.kind, []).append(choice)
    methods: dict[str, Method] = {}
    for kind, choices in offered.items():
        site, first = space.site(gene, kind), type(choices[0])
        largest = {name: max(choice.given[name] for choice in choices) for name in first.arguments}
        parts, shared = first.parts(site, **largest), bool(gene.share) and first.shareable
        methods[kind] = Method(first, site, parts, shared, tuple(largest[name] for name in first.arguments))
    return methods


class Storage(nn.Module):
    """Tensors by name: parts of choices, those that are trained and those that are only kept."""

    def __init__(self, parts: Mapping[str, Part], generator: torch.Generator, like: Tensor) -> None:
        """`like` gives device and dtype; `generator` (on the CPU) draws what does not start at zero."""
        super().__init__()
        self.rates = {name: part.rate for name, part in parts.items()}
        for name, part in parts.items():
            if not name.isidentifier() or hasattr(self, name):
                raise SearchSpaceError(f"a choice names a part {name!r}, which cannot be; give it another name")
            value = torch.zeros(part.shape, dtype=torch.float64)
            part.start(value, generator)
            self.register_parameter(name, nn.Parameter(value.to(like), requires_grad=part.trained))


class SupportTensor(Storage):
    """All choices of one support tensor of a layer; those of one kind share their parts.

    - `untied`: every kind has parts of its own.
    - `reference`: as in the published code of GLoRA, `vector` is column 0 of the LoRA factor `down` and `constant` its
      first entry (of the vector where there is no `down`), so that one column serves three roles.

    Every choice is a no-op at the start: the adapted layer is the original one.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        entangle: str,
        generator: torch.Generator,
        like: Tensor,
        shared: Storage | None = None,
    ) -> None:
        """Allocate what the layer owns; `shared` holds what its group owns."""
        owners = dict(RESERVED)
        owners |= {f"{kind}_draws": "its own count" for kind, method in methods.items() if method.choice.watches}
        owned: dict[str, Part] = {}
        for kind, method in methods.items():
            for name in method.parts:
                if owners.setdefault(name, kind) != kind:
                    raise SearchSpaceError(
                        f"choice {kind!r} has a part {name!r}, and so has {owners[name]!r}: rename it"
                    )
            owned |= {} if method.shared else method.parts
        self.aliased = entangle == "reference"
        if self.aliased:
            _alias(methods, owned)
        super().__init__(owned, generator, like)
        self._methods = dict(methods)
        self._shared = {} if shared is None else dict(shared.named_parameters())
        self._found: dict[str, tuple[type[Choice], Site, dict[str, tuple[str, tuple[slice, ...]]]]] = {}
        self.draws = {kind: 0 for kind, method in methods.items() if method.choice.watches}
        """Optimiser steps that drew a choice of a kind that counts them."""

    @property
    def methods(self) -> Mapping[str, Method]:
        """The kinds of choices that it offers."""
        return self._methods

    @property
    def shared_parts(self) -> dict[str, Tensor]:
        """Its parts that belong to a group of layers, as this layer sees them: cut to the largest that it offers."""
        return {
            name: self._shared[name][tuple(slice(length) for length in part.shape)]
            for method in self._methods.values()
            if method.shared
            for name, part in method.parts.items()
        }

    @torch.no_grad()
    def adds_bias(self, base: Tensor) -> bool:
        """Whether some choice adds to the bias; `base (out, in)` is W0."""
        added = (self.contribution(self.largest(kind), base) for kind in self._methods if kind != "none")
        return any(one.bias_scale is not None or one.bias_shift is not None or one.prompt is not None for one in added)

    def largest(self, kind: str) -> str:
        """The choice of a kind with the largest arguments that are offered (which itself may not be)."""
        method = self._methods[kind]
        return str(method.choice(method.largest))

    def contribution(self, choice: str, base: Tensor) -> Contribution:
        """What a choice adds to the layer with W0 `base (out, in)`; gradients reach the storage."""
        method, site, names = self._lookup(choice)
        return method.contribution({name: self._part(source)[cut] for name, (source, cut) in names.items()}, base, site)

    def parts(self, choice: str) -> dict[str, Tensor]:
        """The parts of a choice, cut to its arguments; views."""
        _, _, names = self._lookup(choice)
        return {name: self._part(source)[cut] for name, (source, cut) in names.items()}

    def stepped(self, kind: str, base: Tensor) -> tuple[str, ...]:
        """Count an optimiser step that drew a kind; returns the parts that start anew."""
        if self.draws.get(kind, -1) < 0:  # it counts none, or is held
            return ()
        self.draws[kind] += 1
        method = self._methods[kind]
        parts = {name: self._part(name).detach() for name in method.parts}
        return method.choice.stepped(self.draws[kind], parts, base.detach(), method.site)

    def _part(self, name: str) -> Tensor:
        own = self._parameters.get(name)
        return self._shared[name] if own is None else own

    def _lookup(self, text: str) -> tuple[type[Choice], Site, dict[str, tuple[str, tuple[slice, ...]]]]:
        """Of a choice its class, its site, and for its parts where they are stored and what is cut off."""
        found = self._found.get(text)
        if found is None:
            choice = parse_choice(text)
            method = self._methods[choice.kind]
            names: dict[str, tuple[str, tuple[slice, ...]]] = {}
            for name, part in method.parts.items():
                cut = [slice(None)] * len(part.shape)
                for argument, axis in part.cut.items():
                    cut[axis] = slice(choice.given[argument])
                names[name] = name, tuple(cut)
            if self.aliased and choice.kind in ("vector", "constant"):
                names = {choice.kind: self._aliased(choice.kind)}
            found = self._found[text] = method.choice, method.site, names
        return found

    def _aliased(self, kind: str) -> tuple[str, tuple[slice, ...]]:
        length = slice(1) if kind == "constant" else slice(None)
        return ("down", (length, 0)) if "down" in self._parameters else ("vector", (length,))  # type: ignore[return-value]


def _alias(methods: Mapping[str, Method], owned: dict[str, Part]) -> None:
    """Leave out what is read from another kind's parts."""
    if owned.pop("constant", None) is not None and "vector" not in owned and "down" not in owned:
        rows = methods["constant"].site.rows
        owned["vector"] = Part((rows,), rate="vector")
    if "down" in owned:
        owned.pop("vector", None)
