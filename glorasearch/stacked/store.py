"""The parameters of all members in one flat buffer, and how they are seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from glorasearch.errors import BackboneError
from glorasearch.stacked.plan import Plan

Key = tuple[str, tuple[int, ...], str]
"""Name in an adapter state, shape, and `Placed.key` of the choice that uses it; "" if several of a member do."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One tensor of an adapter state, of all G members that use it: `(G, *shape)`."""

    members: tuple[int, ...]
    shape: tuple[int, ...]
    offset: int
    trained: bool

    @property
    def size(self) -> int:
        """Elements of one member."""
        return prod(self.shape)


class Store:
    """The parts in use and the heads of M members.

    Those that are trained lie in `theta (P,)`, the others in `fixed (Q,)`. A *segment* is one tensor of one member, in
    the order of `theta`.
    """

    def __init__(self, plans: Sequence[Plan], device: torch.device) -> None:
        """Raises `BackboneError` if the tensors differ in their dtypes."""
        self.leaves: dict[Key, Leaf] = {}
        sizes = {True: 0, False: 0}
        for key, members in _users(plans).items():
            trained = key[0] in plans[members[0]].peaks
            self.leaves[key] = leaf = Leaf(tuple(members), key[1], sizes[trained], trained)
            sizes[trained] += len(members) * leaf.size
        dtypes = {value.dtype for plan in plans for value in plan.values.values()}
        if len(dtypes) > 1:
            raise BackboneError(f"its adapters have several dtypes ({', '.join(map(str, dtypes))})")
        (self.dtype,) = dtypes
        self.theta = torch.zeros(sizes[True], dtype=self.dtype, device=device)
        self.fixed = torch.zeros(sizes[False], dtype=self.dtype, device=device)
        self._rows = {
            (member, key[0]): (key, row) for key, leaf in self.leaves.items() for row, member in enumerate(leaf.members)
        }
        self.segments = [(member, key[0]) for key, leaf in self._all(True) for member in leaf.members]
        """(member, name) of every segment."""
        self.segment_sizes = [leaf.size for _, leaf in self._all(True) for _ in leaf.members]
        for number, plan in enumerate(plans):
            for name, value in plan.values.items():
                self.row(number, name).copy_(value)
        self.theta.requires_grad_()

    def _all(self, trained: bool) -> list[tuple[Key, Leaf]]:
        return [(key, leaf) for key, leaf in self.leaves.items() if leaf.trained == trained]

    def pieces(self) -> dict[Key, Tensor]:
        """Every leaf as `(G, *shape)`; differentiable in `theta`."""
        found: dict[Key, Tensor] = {}
        for trained, flat in ((True, self.theta), (False, self.fixed)):
            leaves = self._all(trained)
            parts = torch.split(flat, [len(leaf.members) * leaf.size for _, leaf in leaves])
            for (key, leaf), part in zip(leaves, parts, strict=True):
                found[key] = part.view(len(leaf.members), *leaf.shape)
        return found

    def key(self, member: int, name: str) -> tuple[Key, int]:
        """The leaf of a tensor of a member, and the member's row in it."""
        return self._rows[member, name]

    def row(self, member: int, name: str) -> Tensor:
        """A tensor of a member, `shape`: a view, to read or to write."""
        key, row = self._rows[member, name]
        leaf = self.leaves[key]
        flat = (self.theta if leaf.trained else self.fixed).detach()
        start = leaf.offset + row * leaf.size
        return flat[start : start + leaf.size].view(leaf.shape)


def _users(plans: Sequence[Plan]) -> dict[Key, list[int]]:
    """The members that have a tensor and use it alike, in their order: so a group of members has a leaf of its own."""
    users: dict[Key, list[int]] = {}
    for number, plan in enumerate(plans):
        texts: dict[str, list[str]] = {}
        for one in plan.placed:
            for name in {source.name for source in one.parts.values()}:
                texts.setdefault(name, []).append(one.key)
        for name, value in plan.values.items():
            using = texts.get(name, [])
            users.setdefault((name, tuple(value.shape), using[0] if len(using) == 1 else ""), []).append(number)
    return users
