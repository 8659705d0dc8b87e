"""The parameters of all members in one flat buffer, and how they are seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import torch
from torch import Tensor

from glorasearch.errors import BackboneError
from glorasearch.stacked.plan import Plan

Key = tuple[str, tuple[int, ...], str]
"""Name in an adapter state, shape, and `Placed.key` of the choice that uses it; "" if several of a member do."""

ALIGN: Final = 16
"""Leaves start at multiples of so many elements."""


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

    @property
    def total(self) -> int:
        """Elements of all members."""
        return len(self.members) * self.size

    @property
    def gap(self) -> int:
        """Unused elements behind it, so that the next one starts where kernels may read wide words."""
        return -self.total % ALIGN


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
            sizes[trained] += leaf.total + leaf.gap
        dtypes = {value.dtype for plan in plans for value in plan.values.values()}
        if len(dtypes) > 1:
            raise BackboneError(f"its adapters have several dtypes ({', '.join(map(str, dtypes))})")
        (self.dtype,) = dtypes
        self._sizes = sizes[True], sizes[False]
        self._rows = {
            (member, key[0]): (key, row) for key, leaf in self.leaves.items() for row, member in enumerate(leaf.members)
        }
        self.segments = [(member, key[0]) for key, leaf in self._all(True) for member in leaf.members]
        """(member, name) of every segment."""
        cuts = [(size, used) for _, leaf in self._all(True) for size, used in _cuts(leaf)]
        self._cuts, self._used = [size for size, _ in cuts], [used for _, used in cuts]
        self.theta, self.fixed = (one.to(device) for one in self.flat([plan.values for plan in plans]))

    def flat(self, members: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
        """What `theta` and `fixed` are with these values of every member; they and the values are on the CPU."""
        theta, fixed = (torch.zeros(size, dtype=self.dtype) for size in self._sizes)
        for number, values in enumerate(members):
            for name, value in values.items():
                leaf = self.leaves[self._rows[number, name][0]]
                (theta if leaf.trained else fixed)[self.place(number, name)] = value.flatten()
        return theta, fixed

    def _all(self, trained: bool) -> list[tuple[Key, Leaf]]:
        return [(key, leaf) for key, leaf in self.leaves.items() if leaf.trained == trained]

    def differentiable(self) -> Tensor:
        """`theta`, same memory, as a new leaf of autograd.

        A CUDA graph can only capture the gradient of a leaf that no graph outside of it knows: autograd remembers the
        stream on which a leaf was first used for as long as any graph of it is alive.
        """
        return self.theta.detach().requires_grad_()

    def pieces(self, theta: Tensor | None = None) -> dict[Key, Tensor]:
        """Every leaf as `(G, *shape)`; differentiable in `theta (P,)` if it is given."""
        found: dict[Key, Tensor] = {}
        for trained, flat in ((True, self.theta if theta is None else theta), (False, self.fixed)):
            leaves = self._all(trained)
            parts = torch.split(flat, [size for _, leaf in leaves for size in (leaf.total, leaf.gap)])
            for (key, leaf), part in zip(leaves, parts[::2], strict=True):
                found[key] = part.view(len(leaf.members), *leaf.shape)
        return found

    def key(self, member: int, name: str) -> tuple[Key, int]:
        """The leaf of a tensor of a member, and the member's row in it."""
        return self._rows[member, name]

    def row(self, member: int, name: str) -> Tensor:
        """A tensor of a member, `shape`: a view, to read or to write."""
        leaf = self.leaves[self._rows[member, name][0]]
        flat = self.theta if leaf.trained else self.fixed
        return flat[self.place(member, name)].view(leaf.shape)

    def place(self, member: int, name: str) -> slice:
        """Where a tensor of a member lies in `theta` or `fixed`."""
        key, row = self._rows[member, name]
        leaf = self.leaves[key]
        start = leaf.offset + row * leaf.size
        return slice(start, start + leaf.size)

    def split(self, flat: Tensor) -> list[Tensor]:
        """A tensor like `theta`, by segments."""
        return [part for part, used in zip(torch.split(flat, self._cuts), self._used, strict=True) if used]

    def segment_numbers(self) -> Tensor:
        """`(P,)` int32 on the CPU: the segment of every element; those of no segment have that of the one before."""
        sizes: list[int] = []
        for size, used in zip(self._cuts, self._used, strict=True):
            sizes.append(size) if used else sizes.append(sizes.pop() + size)
        return torch.arange(len(sizes), dtype=torch.int32).repeat_interleave(torch.tensor(sizes))


def _cuts(leaf: Leaf) -> list[tuple[int, bool]]:
    """Sizes of the members' tensors and of the gap behind them, and whether they are used."""
    return [(leaf.size, True)] * len(leaf.members) + [(leaf.gap, False)]


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
