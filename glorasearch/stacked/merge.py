"""What the choices of all members amount to in one layer, in the one form that all layers have.

`W = W0 ⊙ (1 + scale·1) + left·right + dense` and `b` for every member, with `scale (M, out)`, `left (M, out, r)`,
`right (M, r, in)`, `dense (M, out, in)` and `b (M, out)`. A member that lacks a term has zeros there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from glorasearch.choices import Contribution, LowRank, as_matrix, as_vector
from glorasearch.stacked.plan import Cut, Placed, Plan
from glorasearch.stacked.store import Key, Store


@dataclass(frozen=True, slots=True)
class Group:
    """The members that have one choice in one place."""

    placed: Placed
    members: tuple[int, ...]
    parts: Mapping[str, tuple[Key, Tensor | None, Cut]]
    """Part → its leaf, the members' rows in it (None: all), and the slices of a row that the choice uses."""

    def contribution(self, pieces: Mapping[Key, Tensor], base: Tensor) -> Contribution:
        """What the choice adds for each of its G members; `base (out, in)` is W0."""
        parts: dict[str, Tensor] = {}
        for part, (key, rows, cut) in self.parts.items():
            own = pieces[key] if rows is None else pieces[key].index_select(0, rows)
            parts[part] = own[(slice(None), *cut)] if cut else own
        stacked = base.expand(len(self.members), *base.shape)
        return self.placed.choice_class.contribution(parts, stacked, self.placed.site)


def groups_of(layer: str, plans: Sequence[Plan], store: Store) -> list[Group]:
    """The groups of a layer, in the order of the support tensors."""
    found: dict[str, list[tuple[int, Placed]]] = {}
    for number, plan in enumerate(plans):
        for one in plan.placed:
            if one.layer == layer:
                shapes = {part: store.key(number, source.name)[0] for part, source in one.parts.items()}
                found.setdefault(f"{one.key} {shapes}", []).append((number, one))
    groups: list[Group] = []
    for _, users in sorted(found.items()):
        members, placed = tuple(number for number, _ in users), users[0][1]
        parts: dict[str, tuple[Key, Tensor | None, Cut]] = {}
        for part, source in placed.parts.items():
            places = [store.key(number, source.name) for number in members]
            rows, key = [row for _, row in places], places[0][0]
            everything = rows == list(range(len(store.leaves[key].members)))
            chosen = None if everything else torch.tensor(rows, device=store.theta.device)
            parts[part] = key, chosen, _needed(source.cut, key[1])
        groups.append(Group(placed, members, parts))
    return groups


def _needed(cut: Cut, shape: tuple[int, ...]) -> Cut:
    """The slices, or none if they leave nothing out: a gradient through a slice is one more pass over the whole."""
    whole = all(isinstance(one, slice) and one.indices(n) == (0, n, 1) for one, n in zip(cut, shape, strict=False))
    return () if whole else cut


@dataclass(slots=True)
class Terms:
    """The terms of one layer, of M members."""

    bias: Tensor | None = None
    """`(M, out)`; None if no member has a bias."""
    scale: Tensor | None = None
    left: Tensor | None = None
    right: Tensor | None = None
    dense: Tensor | None = None

    def weight(self, base: Tensor, members: int) -> Tensor:
        """W, `(M, out, in)`."""
        weight = base.expand(members, *base.shape)
        if self.scale is not None:
            weight = torch.addcmul(weight, weight, self.scale[..., None])
        if self.left is not None:
            assert self.right is not None
            weight = torch.baddbmm(weight, self.left, self.right)
        return weight if self.dense is None else weight + self.dense


@dataclass(slots=True)
class _Values:
    """Values of one field of the contributions, by support tensor: a member has at most one in each."""

    found: dict[str, list[tuple[tuple[int, ...], Tensor]]] = field(default_factory=dict)

    def add(self, tensor: str, members: tuple[int, ...], value: Tensor) -> None:
        self.found.setdefault(tensor, []).append((members, value))


class Merger:
    """Computes the terms of one layer from the parameters of all members."""

    def __init__(self, groups: Sequence[Group], members: int, base: Tensor, base_bias: Tensor | None) -> None:
        """`base (out, in)` is W0, `base_bias (out,)` b0, if there is one."""
        self.base, self.base_bias = base, base_bias
        self._groups, self._members = groups, members
        self._orders: dict[tuple[tuple[int, ...], ...], Tensor] = {}

    def terms(self, pieces: Mapping[Key, Tensor]) -> Terms:
        """The terms; differentiable in the parameters."""
        outs, ins = self.base.shape
        scale, shift, left, right, dense = _Values(), _Values(), _Values(), _Values(), _Values()
        bias_scale, bias_shift, prompt = _Values(), _Values(), _Values()
        for group in self._groups:
            added, tensor, members = group.contribution(pieces, self.base), group.placed.tensor, group.members
            count = len(members)
            if isinstance(added.scale, Tensor):
                scale.add(tensor, members, added.scale.expand(count, outs))
            elif added.scale is not None:
                dense.add(f"{tensor} scale", members, self.base * as_matrix(added.scale))
            if isinstance(added.shift, LowRank):
                left.add(tensor, members, added.shift.down)
                right.add(tensor, members, added.shift.up)
            elif isinstance(added.shift, Tensor):
                shift.add(tensor, members, added.shift.expand(count, outs))
            elif added.shift is not None:
                dense.add(tensor, members, as_matrix(added.shift).expand(count, outs, ins))
            if added.bias_scale is not None and self.base_bias is not None:
                bias_scale.add(tensor, members, added.bias_scale.expand(count, outs))
            if added.bias_shift is not None:
                bias_shift.add(tensor, members, added.bias_shift.expand(count, outs))
            if added.prompt is not None:
                prompt.add(tensor, members, as_vector(added.prompt).expand(count, ins))
        lefts, rights = self._each(left, -1), self._each(right, -2)
        line = self._sum(shift)
        if line is not None:  # a column of the product, seen through a row of ones
            lefts.append(line[..., None])
            rights.append(line.new_ones(self._members, 1, ins))
        return Terms(
            self._bias(self._sum(bias_scale), self._sum(bias_shift), self._sum(prompt)),
            self._sum(scale),
            torch.cat(lefts, -1) if lefts else None,
            torch.cat(rights, -2) if rights else None,
            self._sum(dense),
        )

    def _bias(self, scale: Tensor | None, shift: Tensor | None, prompt: Tensor | None) -> Tensor | None:
        bias = self.base_bias
        if bias is not None and scale is not None:
            bias = torch.addcmul(bias, bias, scale)
        through = None if prompt is None else F.linear(prompt, self.base)
        for added in (shift, through):
            if added is not None:
                bias = added if bias is None else bias + added
        return None if bias is None else bias.expand(self._members, -1)

    def _sum(self, values: _Values) -> Tensor | None:
        total: Tensor | None = None
        for each in values.found.values():
            value = self._spread(each)
            total = value if total is None else total + value
        return total

    def _each(self, values: _Values, axis: int) -> list[Tensor]:
        """Factors of products `(M, ...)`, filled up with zeros along their rank, `axis`."""
        found: list[Tensor] = []
        for each in values.found.values():
            rank = max(value.shape[axis] for _, value in each)
            pad = (0, 0) * (-1 - axis)
            found.append(
                self._spread(
                    [
                        (members, F.pad(value, (*pad, 0, rank - value.shape[axis])))
                        if value.shape[axis] < rank
                        else (members, value)
                        for members, value in each
                    ]
                )
            )
        return found

    def _spread(self, each: Sequence[tuple[tuple[int, ...], Tensor]]) -> Tensor:
        """Values of some members `(G, ...)` as `(M, ...)`, zeros for those that have none."""
        present = tuple(members for members, _ in each)
        values = [value for _, value in each]
        known = [member for members in present for member in members]
        if known == list(range(self._members)):
            return torch.cat(values) if len(values) > 1 else values[0]
        if len(known) < self._members:
            values.append(values[0].new_zeros(1, *values[0].shape[1:]))
        if present not in self._orders:
            places = [known.index(member) if member in known else len(known) for member in range(self._members)]
            self._orders[present] = torch.tensor(places, device=self.base.device)
        return torch.cat(values).index_select(0, self._orders[present])
