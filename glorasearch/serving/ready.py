"""Adapters on the device, ready to be written into the resident model; and as many of them as fit a limit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glorasearch.adapters import AdaptedLayer
from glorasearch.choices import Contribution, Dense, LowRank
from glorasearch.serving.served import AdapterGene, ServedAdapter

Value = LowRank | Dense | Tensor | None


@dataclass(frozen=True)
class ReadyLayer:
    """What one layer becomes."""

    weight: tuple[Contribution | AdapterGene, ...]
    """What is added to W0, in order; a gene in place of a dense shift, which each merge computes, for its size."""
    bias: Tensor | None
    """b, `(out,)`, merged."""

    def added(self, base: Tensor) -> list[Contribution]:
        """What is added to W0 `base (out, in)`."""
        return [one if isinstance(one, Contribution) else one.contribution(base) for one in self.weight]

    @property
    def dense(self) -> bool:
        """Whether W has to be formed: something is added that is neither a scale of rows nor a product."""
        return any(isinstance(one, AdapterGene) or isinstance(one.scale, (LowRank, Dense)) for one in self.weight)


@dataclass(frozen=True, eq=False)
class ReadyAdapter:
    """An adapter's layers and head on the device."""

    digest: str
    layers: Mapping[str, ReadyLayer]
    head: Mapping[str, Tensor]
    classes: int
    numbers: bool
    """Whether its outputs are numbers, each in a unit of its own."""
    nbytes: int
    """Of device memory."""

    @classmethod
    def of(cls, adapter: ServedAdapter, pristine: Mapping[str, AdaptedLayer], device: torch.device) -> ReadyAdapter:
        """Move it to the device, and compute there once what does not change from merge to merge.

        `pristine` are the original layers by name, without choices.
        """
        layers = {name: _layer(pristine[name], genes, device) for name, genes in adapter.genes.items()}
        head = {name: value.to(device) for name, value in adapter.head.items()}
        held = {id(one.untyped_storage()): one.untyped_storage().nbytes() for one in _tensors(layers, head)}
        numbers = not adapter.task.right_or_wrong
        return cls(adapter.digest, layers, head, len(adapter.class_names), numbers, sum(held.values()))


def _layer(layer: AdaptedLayer, genes: Sequence[AdapterGene], device: torch.device) -> ReadyLayer:
    base = layer.weight_view
    moved = [replace(one, parts={name: value.to(device) for name, value in one.parts.items()}) for one in genes]
    added = [one.contribution(base) for one in moved]
    weight = tuple(
        gene if isinstance(one.shift, Dense) or isinstance(one.scale, Dense) else _of_weight(one)
        for gene, one in zip(moved, added, strict=True)
        if one.scale is not None or one.shift is not None
    )
    bias = layer.merge_bias(added)
    return ReadyLayer(weight, None if bias is None else bias.contiguous().clone())


def _of_weight(one: Contribution) -> Contribution:
    return Contribution(scale=one.scale, shift=one.shift)


def _tensors(layers: Mapping[str, ReadyLayer], head: Mapping[str, Tensor]) -> Iterator[Tensor]:
    yield from head.values()
    for layer in layers.values():
        if layer.bias is not None:
            yield layer.bias
        for one in layer.weight:
            values = [*one.parts.values()] if isinstance(one, AdapterGene) else [one.scale, one.shift]
            for value in values:
                if isinstance(value, Tensor):
                    yield value
                elif value is not None:
                    yield from value


class ReadyCache:
    """The adapters used last, up to a number of bytes; the newest is kept, however large."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.made = self.evicted = 0
        self._held: OrderedDict[str, ReadyAdapter] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Of all that are held."""
        return sum(one.nbytes for one in self._held.values())

    def __contains__(self, digest: object) -> bool:
        return digest in self._held

    def get(self, digest: str, make: Callable[[], ReadyAdapter]) -> ReadyAdapter:
        """The adapter of this digest, made if it is not held; those used longest ago make room."""
        found = self._held.get(digest)
        if found is None:
            found = make()
            self.made += 1
        self._held[digest] = found
        self._held.move_to_end(digest)
        while self.nbytes > self.most and len(self._held) > 1:
            self._held.popitem(last=False)
            self.evicted += 1
        return found

    def forget(self, digest: str) -> None:
        """Let go of an adapter."""
        self._held.pop(digest, None)
