"""Everything that a supernet trains, in one flat buffer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glorasearch.fused.bank import Bank, banks_of, storages, what_cannot_be_fused
from glorasearch.fused.extras import Key, codes_of
from glorasearch.fused.layout import CONSTANT, LORA, PARTS, VECTOR, encode
from glorasearch.space import SUPPORT_TENSORS, Subnet
from glorasearch.supernet import Supernet


class UnfusableError(Exception):
    """The fused paths do not cover a search space; the plain step and the eager model are used, with a warning."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One parameter of the supernet in the flat buffer."""

    name: str
    """As in `Supernet.adapter_state`."""
    start: int
    shape: tuple[int, ...]
    group: str
    """Its learning-rate group: `factor`, `vector`, `spectrum ...` or `head`; `fixed` if it is not trained."""
    places: tuple[tuple[int, int], ...]
    """Rows and columns (layer, support tensor) of its genes in the codes: one, or several if layers share it; none for
    the head."""
    used_by: tuple[int, ...]
    """The codes of the choice classes that use it."""

    @property
    def size(self) -> int:
        """Elements."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    def view(self, flat: Tensor) -> Tensor:
        """This parameter's part of a buffer with the pool's layout."""
        return flat[self.start : self.start + self.size].view(self.shape)


class Pool:
    """A supernet's trainable parameters as views of one flat buffer, stacked by banks.

    The supernet's parameters become views of the buffer, and the frozen weights of its adapted layers views of the
    banks' stacks; names, shapes and values do not change. Moving the supernet to another device invalidates the pool:
    call `pool_of` again.
    """

    def __init__(self, supernet: Supernet) -> None:
        """Raises `UnfusableError` if there is a choice or a layer that the fused paths do not cover."""
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
            members = [supernet.adapted[gene.layer].support_of(tensor).offered for gene in genes]
            for part, parameter in parts.items():
                name = f"shared.{group}.{tensor}.{part}"
                used = tuple({code for offered in members for code in codes_of(offered, part)})
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
                layer.base.weight.data = weight.view_as(layer.base.weight)

    @property
    def convolves(self) -> bool:
        """Whether there is a convolution: then images and activations have their channels last."""
        return any(geometry is not None for bank in self.banks for geometry in bank.geometries)

    @property
    def valid(self) -> bool:
        """Whether the supernet's parameters are still views of it."""
        return all(
            self._parameters[segment.name].data_ptr() == segment.view(self.flat).data_ptr() for segment in self.segments
        ) and all(bank.layers[0].base.weight.data_ptr() == bank.base.data_ptr() for bank in self.banks)

    def stacked(self, flat: Tensor) -> list[dict[Key, Tensor]]:
        """For every bank its stacked storages, `(L, ...)`, as views of a buffer with the pool's layout."""
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
        """For every bank the parts that its layers share, one for all layers, as views of such a buffer."""
        found: list[dict[Key, Tensor]] = []
        for bank in self.banks:
            parts: dict[Key, Tensor] = {}
            for extra in bank.extras.all:
                for name, part in extra.offered.parts.items() if extra.offered.shared else ():
                    segment = self._shared[self._groups[bank.names[0], extra.tensor], extra.tensor, name]
                    parts[extra.tensor, name] = segment.view(flat)[tuple(slice(length) for length in part.shape)]
            found.append(parts)
        return found

    def parts(self, flat: Tensor) -> list[dict[Key, Tensor]]:
        """For every bank all parts of its layers' choices, `(L, ...)`, with shared parts expanded."""
        both = zip(self.banks, self.stacked(flat), self.shared(flat), strict=True)
        return [
            own | {key: value.expand(len(bank), *value.shape) for key, value in shared.items()}
            for bank, own, shared in both
        ]

    def tables(self) -> list[Tensor]:
        """For every bank the places of its storages in the buffer, `(5, 4, 3)` int64: for A to E and each of `PARTS`
        the first element and the strides of layers and of elements. Aliased vectors are columns of `down`."""
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
        """The codes of a subnet, `(layers, 5, 3)`."""
        return [encode(subnet.layer(name)) for name in self.layer_names]


def active_table(segments: Sequence[Segment], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The table for `active`; for every gene of a segment its row and column in the codes, the codes that use it as a
    bit mask, and the segment. The head has one gene, which is always drawn."""
    always = (1 << 62) - 1
    entries = [
        (row, column, sum(1 << code for code in segment.used_by) if segment.places else always, number)
        for number, segment in enumerate(segments)
        for row, column in segment.places or ((0, 0),)
    ]
    rows, columns, masks, owners = (torch.tensor(values, device=device) for values in zip(*entries, strict=True))
    return rows, columns, masks, owners


def active(table: tuple[Tensor, Tensor, Tensor, Tensor], codes: Tensor, count: int) -> Tensor:
    """`(count,)` bool: whether a subnet with these codes `(layers, 5, 3)` draws each segment."""
    rows, columns, masks, owners = table
    drawn = codes[rows, columns, 0].long()
    hits = torch.bitwise_right_shift(masks, drawn) & 1
    return torch.zeros(count, dtype=hits.dtype, device=hits.device).index_add(0, owners, hits) > 0


def pool_of(supernet: Supernet) -> Pool:
    """The pool of a supernet on its current device; the supernet owns it."""
    if not isinstance(supernet.pool, Pool) or not supernet.pool.valid:
        supernet.pool = Pool(supernet)
    return supernet.pool


def _rows(bank: Bank, tensor: str, places: Mapping[Key, tuple[int, int]]) -> list[tuple[int, int, int]]:
    """The table entries of one support tensor; missing parts are never read and have zeros."""
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
