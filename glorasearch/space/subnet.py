"""A subnet: one choice for every gene. Immutable, hashable, with canonical JSON and a digest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any, Self

from glorasearch.bounded import parse_json
from glorasearch.choices import SUPPORT_TENSORS, check_allowed, parse_choice
from glorasearch.errors import SearchSpaceError

GeneKey = tuple[str, str]
"""(layer name, support tensor)."""


class Subnet:
    """One choice for every gene, such as `{("blocks.0.attn.qkv", "A"): "lora:4", ...}`.

    Genes left out are `none`: `subnet[layer, tensor]` has a value for any pair. Two subnets are equal if their genes
    are, in whatever order they were given.
    """

    _items: tuple[tuple[GeneKey, str], ...]
    _choices: dict[GeneKey, str]

    def __init__(self, genes: Mapping[GeneKey, str] | Iterable[tuple[GeneKey, str]]) -> None:
        items = tuple(sorted(genes.items() if isinstance(genes, Mapping) else genes))
        choices = dict(items)
        if len(choices) != len(items):
            raise SearchSpaceError("a subnet names a gene twice")
        object.__setattr__(self, "_items", items)
        object.__setattr__(self, "_choices", choices)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a subnet is immutable; {name!r} cannot be set (use replace())")

    def __getitem__(self, gene: GeneKey) -> str:
        return self._choices.get(gene, "none")

    def __iter__(self) -> Iterator[GeneKey]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)

    def __contains__(self, gene: object) -> bool:
        return gene in self._choices

    def items(self) -> tuple[tuple[GeneKey, str], ...]:
        """((layer, support tensor), choice) of every gene, sorted."""
        return self._items

    def covers(self, genes: AbstractSet[GeneKey]) -> bool:
        """Whether the subnet names exactly these genes."""
        return self._choices.keys() == genes

    def layer(self, name: str) -> tuple[str, str, str, str, str]:
        """The choices of one layer for A, B, C, D and E."""
        a, b, c, d, e = (self._choices.get((name, tensor), "none") for tensor in SUPPORT_TENSORS)
        return a, b, c, d, e

    def replace(self, changes: Mapping[GeneKey, str]) -> Self:
        """A copy with some genes changed."""
        return type(self)(self._choices | dict(changes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subnet) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"Subnet({len(self._items)} genes, {self.digest[:12]})"

    def to_json(self) -> str:
        """Canonical JSON: `{"<layer>":{"A":"lora:4",...},...}`, keys sorted, no spaces."""
        return self._json

    @cached_property
    def _json(self) -> str:
        # Equals `json.dumps(self.to_dict(), sort_keys=True)`, but is faster: the items are sorted, their texts are few.
        layers = (
            f"{_quoted(layer)}:{{{','.join(f'{_quoted(tensor)}:{_quoted(choice)}' for (_, tensor), choice in items)}}}"
            for layer, items in groupby(self._items, key=_layer)
        )
        return f"{{{','.join(layers)}}}"

    def to_dict(self) -> dict[str, dict[str, str]]:
        """Layer → support tensor → choice."""
        nested: dict[str, dict[str, str]] = {}
        for (layer, tensor), choice in self._items:
            nested.setdefault(layer, {})[tensor] = choice
        return nested

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`.

        Raises:
            SearchSpaceError: if the text is not such JSON, or names a support tensor or choice that does not exist.
        """
        try:
            data = parse_json(text, object_pairs_hook=_without_duplicates)
        except ValueError as error:
            raise SearchSpaceError(f"a subnet must be JSON: {error}") from error
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The inverse of `to_dict`; raises as `from_json` does."""
        if not isinstance(data, Mapping):
            raise SearchSpaceError("a subnet must be a JSON object: layer → support tensor → choice")
        genes: dict[GeneKey, str] = {}
        for layer, tensors in data.items():
            if not isinstance(tensors, Mapping):
                raise SearchSpaceError(f"subnet, layer {layer!r}: expected an object, support tensor → choice")
            for tensor, choice in tensors.items():
                if tensor not in SUPPORT_TENSORS:
                    raise SearchSpaceError(f"subnet, layer {layer!r}: {tensor!r} is not one of {SUPPORT_TENSORS}")
                if not isinstance(choice, str):
                    raise SearchSpaceError(f"subnet, layer {layer!r}, {tensor}: a choice is a string, got {choice!r}")
                check_allowed(tensor, parse_choice(choice))
                genes[layer, tensor] = choice
        return cls(genes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


@lru_cache(maxsize=2**16)
def _quoted(text: str) -> str:
    return json.dumps(text)


def _layer(item: tuple[GeneKey, str]) -> str:
    return item[0][0]


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise SearchSpaceError(f"a subnet names {twice!r} twice")
    return found
