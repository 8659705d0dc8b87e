"""What the choices of all members amount to, in the one form that all layers have.

`W = W0 ⊙ (1 + scale·1) + left·right + dense` and `b` for every member, with `scale (M, out)`, `left (M, out, r)`,
`right (M, r, in)`, `dense (M, out, in)` and `b (M, out)`. A member that lacks a term has zeros there.

Small layers of one shape are computed at once: what a step of them waits for is the number of kernels. A *place* is
then a member in one of L such layers, layer by layer: P = L · M of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from glorasearch.choices import Contribution, LowRank, as_matrix, as_vector
from glorasearch.stacked.plan import Cut, Placed, Plan
from glorasearch.stacked.store import Key, Store


@dataclass(frozen=True, slots=True)
class Group:
    """The places that have one choice as one support tensor."""

    placed: Placed
    """The first of them."""
    places: tuple[int, ...]
    layers: Tensor | int
    """`(G,)`: in which of the L layers each place is; a number if they are all in one."""
    parts: Mapping[str, tuple[tuple[Key, ...], Tensor | None, Cut]]
    """Part → its leaves, the places' rows in these (None: all), and the slices of a row that the choice uses."""

    def base(self, bases: Tensor) -> Tensor:
        """W0 of every place, `(G, out, in)`, of `bases (L, out, in)`."""
        if isinstance(self.layers, int):
            return bases[self.layers].expand(len(self.places), *bases.shape[1:])
        return bases.index_select(0, self.layers)

    def contribution(self, pieces: Mapping[Key, Tensor], base: Tensor) -> Contribution:
        """What the choice adds in each of its G places; `base (G, out, in)` is W0."""
        parts: dict[str, Tensor] = {}
        for part, (keys, rows, cut) in self.parts.items():
            own = pieces[keys[0]] if len(keys) == 1 else torch.cat([pieces[key] for key in keys])
            own = own if rows is None else own.index_select(0, rows)
            parts[part] = own[(slice(None), *cut)] if cut else own
        return self.placed.choice_class.contribution(parts, base, self.placed.site)


def groups_of(layers: Sequence[str], plans: Sequence[Plan], store: Store) -> list[Group]:
    """The groups of some layers of one shape, in the order of the support tensors."""
    found: dict[str, list[tuple[int, int, Placed]]] = {}
    numbers = {layer: number for number, layer in enumerate(layers)}
    for member, plan in enumerate(plans):
        for one in plan.placed:
            if one.layer in numbers:
                stored = {part: (store.key(member, name)[0][1], cut) for part, (name, cut) in one.parts.items()}
                key = f"{one.tensor} {one.text} {sorted(one.site.options.items())} {stored}"
                found.setdefault(key, []).append((numbers[one.layer], member, one))
    groups: list[Group] = []
    for _, users in sorted(found.items()):
        users.sort(key=lambda user: user[:2])
        placed, device = users[0][2], store.theta.device
        parts: dict[str, tuple[tuple[Key, ...], Tensor | None, Cut]] = {}
        for part, source in placed.parts.items():
            rows = [store.key(member, one.parts[part].name) for _, member, one in users]
            keys = tuple(dict.fromkeys(key for key, _ in rows))
            starts = dict(zip(keys, accumulate((len(store.leaves[key].members) for key in keys), initial=0)))  # noqa: B905
            chosen = [starts[key] + row for key, row in rows]
            everything = chosen == list(range(sum(len(store.leaves[key].members) for key in keys)))
            index = None if everything else torch.tensor(chosen, device=device)
            parts[part] = keys, index, _needed(source.cut, keys[0][1])
        own = [layer for layer, _, _ in users]
        where = own[0] if len(set(own)) == 1 else torch.tensor(own, device=device)
        places = tuple(layer * len(plans) + member for layer, member, _ in users)
        groups.append(Group(placed, places, where, parts))
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
    """Values of one field of the contributions, by support tensor: a place has at most one in each."""

    found: dict[str, list[tuple[tuple[int, ...], Tensor]]] = field(default_factory=dict)

    def add(self, tensor: str, places: tuple[int, ...], value: Tensor) -> None:
        self.found.setdefault(tensor, []).append((places, value))


class Merger:
    """Computes the terms of L layers of one shape from the parameters of all members."""

    def __init__(self, groups: Sequence[Group], members: int, bases: Tensor, base_biases: Tensor | None) -> None:
        """`bases (L, out, in)` are W0, `base_biases (L, out)` b0, if there are such."""
        self.bases, self._members = bases, members
        self._groups, self._places = groups, members * len(bases)
        self._base_bias = None if base_biases is None else base_biases.repeat_interleave(members, 0)
        self._orders: dict[tuple[tuple[int, ...], ...], Tensor] = {}

    def terms(self, pieces: Mapping[Key, Tensor]) -> list[Terms]:
        """The terms of each layer; differentiable in the parameters."""
        _, outs, ins = self.bases.shape
        scale, shift, left, right, dense = _Values(), _Values(), _Values(), _Values(), _Values()
        bias_scale, bias_shift, prompt = _Values(), _Values(), _Values()
        for group in self._groups:
            base, tensor, places = group.base(self.bases), group.placed.tensor, group.places
            added, count = group.contribution(pieces, base), len(places)
            if isinstance(added.scale, Tensor):
                scale.add(tensor, places, added.scale.expand(count, outs))
            elif added.scale is not None:
                dense.add(f"{tensor} scale", places, base * as_matrix(added.scale))
            if isinstance(added.shift, LowRank):
                left.add(tensor, places, added.shift.down)
                right.add(tensor, places, added.shift.up)
            elif isinstance(added.shift, Tensor):
                shift.add(tensor, places, added.shift.expand(count, outs))
            elif added.shift is not None:
                dense.add(tensor, places, as_matrix(added.shift).expand(count, outs, ins))
            if added.bias_scale is not None and self._base_bias is not None:
                bias_scale.add(tensor, places, added.bias_scale.expand(count, outs))
            if added.bias_shift is not None:
                bias_shift.add(tensor, places, added.bias_shift.expand(count, outs))
            if added.prompt is not None:
                prompt.add(tensor, places, as_vector(added.prompt).expand(count, ins))
        lefts, rights = self._each(left, -1), self._each(right, -2)
        line = self._sum(shift)
        if line is not None:  # a column of the product, seen through a row of ones
            lefts.append(line[..., None])
            rights.append(line.new_ones(self._places, 1, ins))
        found = (
            self._bias(self._sum(bias_scale), self._sum(bias_shift), self._sum(prompt)),
            self._sum(scale),
            torch.cat(lefts, -1) if lefts else None,
            torch.cat(rights, -2) if rights else None,
            self._sum(dense),
        )
        return [Terms(*each) for each in zip(*(self._by_layer(value) for value in found), strict=True)]

    def _by_layer(self, value: Tensor | None) -> Sequence[Tensor | None]:
        layers = len(self.bases)
        if value is None or layers == 1:
            return [value] * layers
        return value.view(layers, self._members, *value.shape[1:]).unbind()

    def _bias(self, scale: Tensor | None, shift: Tensor | None, prompt: Tensor | None) -> Tensor | None:
        bias = self._base_bias
        if bias is not None and scale is not None:
            bias = torch.addcmul(bias, bias, scale)
        through = None
        if prompt is not None:
            through = (prompt.view(len(self.bases), self._members, -1) @ self.bases.mT).flatten(0, 1)
        for added in (shift, through):
            if added is not None:
                bias = added if bias is None else bias + added
        return bias

    def _sum(self, values: _Values) -> Tensor | None:
        total: Tensor | None = None
        for each in values.found.values():
            value = self._spread(each)
            total = value if total is None else total + value
        return total

    def _each(self, values: _Values, axis: int) -> list[Tensor]:
        """Factors of products `(P, ...)`, filled up with zeros along their rank, `axis`."""
        found: list[Tensor] = []
        for each in values.found.values():
            rank = max(value.shape[axis] for _, value in each)
            pad = (0, 0) * (-1 - axis)
            found.append(
                self._spread(
                    [
                        (places, F.pad(value, (*pad, 0, rank - value.shape[axis])))
                        if value.shape[axis] < rank
                        else (places, value)
                        for places, value in each
                    ]
                )
            )
        return found

    def _spread(self, each: Sequence[tuple[tuple[int, ...], Tensor]]) -> Tensor:
        """Values of some places `(G, ...)` as `(P, ...)`, zeros for those that have none."""
        present = tuple(places for places, _ in each)
        values = [value for _, value in each]
        known = {place: number for number, place in enumerate(place for places in present for place in places)}
        if list(known) == list(range(self._places)):
            return torch.cat(values) if len(values) > 1 else values[0]
        if len(known) < self._places:
            values.append(values[0].new_zeros(1, *values[0].shape[1:]))
        if present not in self._orders:
            order = [known.get(place, len(known)) for place in range(self._places)]
            self._orders[present] = torch.tensor(order, device=self.bases.device)
        return torch.cat(values).index_select(0, self._orders[present])
