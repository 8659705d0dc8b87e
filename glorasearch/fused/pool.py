"""Everything that a supernet trains, in one flat buffer."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glorasearch.fused.bank import PARTS, Bank, banks_of, storages, what_cannot_be_fused
from glorasearch.fused.codes import CONSTANT, LORA, VECTOR, encode
from glorasearch.fused.extras import Key, codes_of
from glorasearch.space import SUPPORT_TENSORS, Subnet
from glorasearch.supernet import Supernet


class UnfusableError(Exception):
    """The plain step and the eager resident have to do; never reaches a user but as a warning."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One parameter of the supernet in the flat buffer."""

    name: str
    """As in `Supernet.adapter_state`."""
    start: int
    shape: tuple[int, ...]
    group: str
    """`factor`, `vector`, `spectrum` or `head`: what its learning rate is; `fixed` for what is only kept."""
    places: tuple[tuple[int, int], ...]
    """Rows and columns (layer, support tensor) of its genes in the table of codes: one, several for what layers share;
    none for the head."""
    used_by: tuple[int, ...]
    """The kinds of choices that are made of it."""

    @property
    def size(self) -> int:
        """Elements."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    def view(self, flat: Tensor) -> Tensor:
        """This parameter's part of a buffer that is laid out like the pool's."""
        return flat[self.start : self.start + self.size].view(self.shape)


class Pool:
    """A supernet's trainable parameters as views of one flat buffer, stacked by banks.

    The supernet's parameters are made to point into the buffer, and the frozen weights of its adapted layers into the
    banks' stacks; names, shapes and values stay as they are. Moving the supernet to another device ends that: ask
    `pool_of` again.
    """

    def __init__(self, supernet: Supernet) -> None:
        """Raises `UnfusableError` if there is a choice or a layer that the fused paths do not know."""
        reason = what_cannot_be_fused(supernet.adapted)
        if reason is not None:
            raise UnfusableError(f"the fused paths do not cover this search space: {reason}")
        self.banks = banks_of(supernet.adapted)
        rates = supernet.rates()
        self.layer_names = tuple(supernet.adapted)
        self.segments: list[Segment] = []
        self._keys: list[list[Key]] = [list(bank.storages) for bank in self.banks]
        head = supernet.head_parameters()
        values: list[Tensor] = []
        start = 0
        for bank, keys in zip(self.banks, self._keys, strict=True):
            held = [storages(layer) for layer in bank.layers]
            for key in keys:
                for name, position, own in zip(bank.names, bank.positions.tolist(), held, strict=True):
                    tensor, part = key
                    group = rates.get(f"{name}.{tensor}.{part}", "fixed")
                    places = ((position, SUPPORT_TENSORS.index(tensor)),)
                    used = _used_by(part, bank.aliased[tensor]) if part in PARTS else bank.extras.used_by(tensor, part)
                    state_name = f"{name}.{tensor}.{part}"
                    self.segments.append(Segment(state_name, start, tuple(own[key].shape), group, places, used))
                    values.append(own[key].detach().flatten())
                    start += own[key].numel()
        self._parameters = dict(head)
        self._shared: dict[tuple[str, str, str], Segment] = {}
        for (group, tensor), parts in supernet.shared_parameters().items():
            genes = [gene for gene in supernet.space.genes if (gene.share, gene.tensor) == (group, tensor)]
            rows = tuple((self.layer_names.index(gene.layer), SUPPORT_TENSORS.index(tensor)) for gene in genes)
            members = [supernet.adapted[gene.layer].support_of(tensor).methods for gene in genes]
            for part, parameter in parts.items():
                name = f"shared.{group}.{tensor}.{part}"
                used = tuple({code for methods in members for code in codes_of(methods, part)})
                segment = Segment(name, start, tuple(parameter.shape), rates.get(name, "fixed"), rows, used)
                self._shared[group, tensor, part] = segment
                self.segments.append(segment)
                self._parameters[name] = parameter
                values.append(parameter.detach().flatten())
                start += parameter.numel()
        for name, parameter in head.items():
            self.segments.append(Segment(name, start, tuple(parameter.shape), "head", (), ()))
            values.append(parameter.detach().flatten())
            start += parameter.numel()
        self.flat = torch.cat(values)
        self._groups = {(gene.layer, gene.tensor): gene.share for gene in supernet.space.genes if gene.share}
        for name, layer in supernet.adapted.items():
            self._parameters |= {f"{name}.{key[0]}.{key[1]}": value for key, value in storages(layer).items()}
        for segment in self.segments:
            self._parameters[segment.name].data = segment.view(self.flat)
        for bank in self.banks:
            for layer, weight in zip(bank.layers, bank.base, strict=True):
                layer.base.weight.data = weight

    @property
    def valid(self) -> bool:
        """Whether the supernet still has its parameters here."""
        return all(
            self._parameters[segment.name].data_ptr() == segment.view(self.flat).data_ptr() for segment in self.segments
        ) and all(bank.layers[0].base.weight.data_ptr() == bank.base.data_ptr() for bank in self.banks)

    def stacked(self, flat: Tensor) -> list[dict[Key, Tensor]]:
        """For every bank its stacked storages, `(L, ...)`, as views of a buffer that is laid out like the pool's."""
        found: list[dict[Key, Tensor]] = []
        start = 0
        for bank, keys in zip(self.banks, self._keys, strict=True):
            parts: dict[Key, Tensor] = {}
            for key in keys:
                shape = (len(bank), *bank.storages[key])
                size = torch.Size(shape).numel()
                parts[key] = flat[start : start + size].view(shape)
                start += size
            found.append(parts)
        return found

    def shared(self, flat: Tensor) -> list[dict[Key, Tensor]]:
        """For every bank the parts that its layers share, one for all of them, as views of such a buffer."""
        found: list[dict[Key, Tensor]] = []
        for bank in self.banks:
            parts: dict[Key, Tensor] = {}
            for extra in bank.extras.all:
                for name, part in extra.method.parts.items() if extra.method.shared else ():
                    segment = self._shared[self._groups[bank.names[0], extra.tensor], extra.tensor, name]
                    parts[extra.tensor, name] = segment.view(flat)[tuple(slice(length) for length in part.shape)]
            found.append(parts)
        return found

    def parts(self, flat: Tensor) -> list[dict[Key, Tensor]]:
        """For every bank all parts of its layers' choices, `(L, ...)`, those that they share repeated."""
        both = zip(self.banks, self.stacked(flat), self.shared(flat), strict=True)
        return [
            own | {key: value.expand(len(bank), *value.shape) for key, value in shared.items()}
            for bank, own, shared in both
        ]

    def tables(self) -> list[Tensor]:
        """For every bank where its storages lie in the buffer, `(5, 4, 3)` int64: for A to E, for down, up, vector and
        constant, the first element and the strides of layers and of elements. Aliased lines are columns of `down`."""
        found: list[Tensor] = []
        start = 0
        for bank, keys in zip(self.banks, self._keys, strict=True):
            places: dict[Key, tuple[int, int]] = {}
            for key in keys:
                size = torch.Size(bank.storages[key]).numel()
                places[key] = start, size
                start += size * len(bank)
            found.append(torch.tensor([_rows(bank, tensor, places) for tensor in SUPPORT_TENSORS]).to(self.flat.device))
        return found

    def codes(self, subnet: Subnet) -> list[list[tuple[int, ...]]]:
        """The table of codes of a subnet: for every layer, for A to E, kind and rank; `(layers, 5, 3)`."""
        return [encode(subnet.layer(name)) for name in self.layer_names]


def active_table(segments: Sequence[Segment], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `active` needs, for every gene of a segment: its row and column in the table of codes, the kinds as a bit
    mask, and the segment. The head has one gene that is drawn always."""
    always = (1 << 62) - 1
    entries = [
        (row, column, sum(1 << kind for kind in segment.used_by) if segment.places else always, number)
        for number, segment in enumerate(segments)
        for row, column in segment.places or ((0, 0),)
    ]
    rows, columns, masks, owners = (torch.tensor(values, device=device) for values in zip(*entries, strict=True))
    return rows, columns, masks, owners


def active(table: tuple[Tensor, Tensor, Tensor, Tensor], codes: Tensor, count: int) -> Tensor:
    """`(count,)` bool: whether a path with these codes `(layers, 5, 3)` draws each of so many segments."""
    rows, columns, masks, owners = table
    kinds = codes[rows, columns, 0].long()
    hits = torch.bitwise_right_shift(masks, kinds) & 1
    return torch.zeros(count, dtype=hits.dtype, device=hits.device).index_add(0, owners, hits) > 0


def pool_of(supernet: Supernet) -> Pool:
    """The pool of a supernet where it is now; made once."""
    known = _POOLS.get(supernet)
    if known is None or not known.valid:
        known = _POOLS[supernet] = Pool(supernet)
    return known


_POOLS: weakref.WeakKeyDictionary[Supernet, Pool] = weakref.WeakKeyDictionary()


def _rows(bank: Bank, tensor: str, places: Mapping[Key, tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Where the parts of one support tensor lie; what is not there is never read and gets zeros."""
    down = places.get((tensor, "down"), (0, 0))
    rank = bank.storages.get((tensor, "down"), (0, 0))[1]
    vector = (*places.get((tensor, "vector"), (0, 0)), 1)
    constant = (*places.get((tensor, "constant"), (0, 0)), 0)
    if bank.aliased.get(tensor):
        vector = (*down, rank) if (tensor, "vector") not in places else vector
        constant = (*vector[:2], 0)
    return [(*down, rank), (*places.get((tensor, "up"), (0, 0)), 1), vector, constant]


def _used_by(part: str, aliased: bool) -> tuple[int, ...]:
    if part == "up":
        return (LORA,)
    if part == "down":
        return (LORA, VECTOR, CONSTANT) if aliased else (LORA,)
    if part == "vector":
        return (VECTOR, CONSTANT) if aliased else (VECTOR,)
    return (CONSTANT,)
