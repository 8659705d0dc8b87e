"""A batch whose images have different adapters, in one forward pass: nothing is merged, each has its own terms."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import norm as timm_norms
from torch import Tensor, nn

from glorasearch.adapters import AdaptedLayer
from glorasearch.choices import LowRank
from glorasearch.serving.ready import ReadyAdapter, ReadyLayer
from glorasearch.serving.resident import ResidentModel

_NORMS = (nn.LayerNorm, timm_norms.LayerNorm)


class UnmixableError(Exception):
    """These adapters cannot be computed side by side; their images are grouped instead."""


@dataclass
class _Batch:
    """What the layers of a mixed model are told of a batch."""

    owner: Tensor
    """`(N,)` int64: the adapter of each image."""
    terms: Mapping[str, _Terms]
    heads: Sequence[Mapping[str, Tensor]]
    widest: int
    """Classes of the adapter that has most."""


@dataclass(frozen=True)
class _Terms:
    """What k adapters make of one layer: `y = gain ⊙ (x·W0ᵀ) + (x·up)·down + bias`."""

    gain: Tensor | None
    """`(k, out)`; None where no adapter scales."""
    bias: Tensor | None
    """`(k, out)`."""
    up: Tensor | None
    """`(k, in, r)`, zeros beyond an adapter's rank."""
    down: Tensor | None
    """`(k, r, out)`."""


class MixedModel:
    """The pristine backbone with layers that add to each image what its adapter has for them.

    Adapters can be mixed if all that they change are plain linear layers, by scales of rows and by products, layer
    norms, biases, and a linear head. Images must be the leading dimension of what these layers get.
    """

    def __init__(self, resident: ResidentModel) -> None:
        """For the layers that adapters have met so far.

        Raises:
            UnmixableError: if a head is not a linear layer.
        """
        self._batch: list[_Batch] = []
        self.names = frozenset(resident.layers)
        self._layers = dict(resident.layers)
        self._kept: dict[tuple[str, ...], Mapping[str, _Terms]] = {}
        memo: dict[int, object] = {id(one): one for one in resident.pristine.parameters()}
        memo |= {id(one): one for one in resident.pristine.buffers()}
        for name, layer in resident.layers.items():
            memo[id(layer.base)] = _MixedLayer(name, layer, self._batch) if _mixes(layer) else layer.base
        for name in resident.heads:
            head = resident.pristine.get_submodule(name)
            if type(head) is not nn.Linear:
                raise UnmixableError(f"the head {name} is a {type(head).__name__}")
            memo[id(head)] = _MixedHead(name, self._batch)
        self._model = copy.deepcopy(resident.pristine, memo)

    def __call__(self, images: Tensor, adapters: Sequence[ReadyAdapter], owner: Sequence[int]) -> list[Tensor]:
        """Logits `(classes,)` of each of `images (N, C, H, W)`, the adapter of image i being `adapters[owner[i]]`.

        Raises:
            UnmixableError: if an adapter, or what the backbone does with images, does not allow it.
        """
        terms = self._terms(adapters)
        heads, widest = [one.head for one in adapters], max(one.classes for one in adapters)
        self._batch[:] = [_Batch(torch.tensor(owner, device=images.device), terms, heads, widest)]
        try:
            logits: Tensor = self._model(images)
        finally:
            self._batch.clear()
        if logits.shape != (len(images), widest):
            raise UnmixableError(f"its outputs have the shape {tuple(logits.shape)}")
        return [row[: adapters[which].classes] for row, which in zip(logits, owner, strict=True)]

    def _terms(self, adapters: Sequence[ReadyAdapter]) -> Mapping[str, _Terms]:
        """The stacked terms of some adapters; those of the last batch are kept."""
        key = tuple(one.digest for one in adapters)
        if key not in self._kept:
            used = {name for one in adapters for name in one.layers}
            self._kept = {
                key: {
                    name: _stacked(name, self._layers[name], [one.layers.get(name) for one in adapters])
                    for name in used
                }
            }
        return self._kept[key]


def check_mixable(adapter: ReadyAdapter, layers: Mapping[str, AdaptedLayer]) -> None:
    """Raise `UnmixableError` if an adapter has something that has to be merged."""
    for name, change in adapter.layers.items():
        if not _mixes(layers[name]):
            raise UnmixableError(f"{name} is a {type(layers[name].base).__name__}")
        if change.dense:
            raise UnmixableError(f"what is added to the weight of {name} is neither a scale of rows nor a product")


def _mixes(layer: AdaptedLayer) -> bool:
    return type(layer.base) is nn.Linear or type(layer.base) in _NORMS


class _MixedLayer(nn.Module):
    """A linear layer or layer norm in whose input the images come first, each as often as all others."""

    def __init__(self, name: str, layer: AdaptedLayer, batch: list[_Batch]) -> None:
        super().__init__()
        self._name, self._base, self._batch = name, [layer.base], batch
        self._repeats: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`(N·m, ..., in)` to `(N·m, ..., out)`."""
        base, batch = self._base[0], self._batch[0]
        terms = batch.terms.get(self._name)
        if terms is None:
            result: Tensor = base(x)
            return result
        owner = self._owner_of_rows(x, batch.owner)
        if isinstance(base, nn.Linear):
            plain = F.linear(x, base.weight)
        else:
            assert isinstance(base, nn.LayerNorm)
            plain = F.layer_norm(x, base.normalized_shape, base.weight, None, base.eps)
        rows = plain.reshape(len(x), -1, plain.shape[-1])
        gain, bias = (None if one is None else one[owner, None] for one in (terms.gain, terms.bias))
        if gain is not None:
            rows.mul_(gain)
        if bias is not None:
            rows.add_(bias)
        if terms.up is not None and terms.down is not None:
            seen = torch.bmm(x.reshape(len(x), -1, x.shape[-1]), terms.up[owner].to(x.dtype))
            rows.baddbmm_(seen.to(rows.dtype), terms.down[owner].to(rows.dtype))
        return rows.view(plain.shape)

    def _owner_of_rows(self, x: Tensor, owner: Tensor) -> Tensor:
        repeats, rest = divmod(len(x), len(owner))
        if rest or x.ndim < 2 or self._repeats not in (None, repeats):
            raise UnmixableError(f"{self._name} does not get the images one after the other")
        self._repeats = repeats
        return owner if repeats == 1 else owner.repeat_interleave(repeats)


class _MixedHead(nn.Module):
    """The heads of all adapters of a batch."""

    def __init__(self, name: str, batch: list[_Batch]) -> None:
        super().__init__()
        self._name, self._batch = name, batch

    def forward(self, x: Tensor) -> Tensor:
        """`(N, ..., in)` to `(N, ..., widest)`; outputs that an image's adapter does not have are 0."""
        batch = self._batch[0]
        if len(x) != len(batch.owner):
            raise UnmixableError(f"the head {self._name} does not get one row an image")
        logits = x.new_zeros(*x.shape[:-1], batch.widest)
        for which, head in enumerate(batch.heads):
            weight, bias = head[f"{self._name}.weight"], head.get(f"{self._name}.bias")
            places = (batch.owner == which).nonzero()[:, 0]
            logits[places, ..., : len(weight)] = F.linear(x[places], weight, bias).to(logits.dtype)
        return logits


def _stacked(name: str, layer: AdaptedLayer, changes: Sequence[ReadyLayer | None]) -> _Terms:
    """What adapters make of one layer; None for one that leaves it as it is."""
    base = layer.weight_view
    if any(change is not None and change.dense for change in changes):
        raise UnmixableError(f"what is added to the weight of {name} is neither a scale of rows nor a product")
    added = [[] if change is None else change.added(base) for change in changes]
    scales = [[one.scale for one in own if isinstance(one.scale, Tensor)] for own in added]
    gain = None
    if any(scales):
        gain = torch.stack([sum(own, base.new_zeros(())).expand(len(base)) for own in scales]) + 1
    biases = [layer.base.bias if change is None else change.bias for change in changes]
    bias = None
    if any(one is not None for one in biases):
        bias = torch.stack([base.new_zeros(len(base)) if one is None else one for one in biases])
    products = [[_product(one.shift, base) for one in own if one.shift is not None] for own in added]
    if not any(products):
        return _Terms(gain, bias, None, None)
    rank = max(sum(one.down.shape[1] for one in own) for own in products)
    up, down = base.new_zeros(len(added), base.shape[1], rank), base.new_zeros(len(added), rank, base.shape[0])
    for which, own in enumerate(products):
        at = 0
        for one in own:
            until = at + one.down.shape[1]
            up[which, :, at:until], down[which, at:until] = one.up.t(), one.down.t()
            at = until
    return _Terms(gain, bias, up, down)


def _product(shift: object, base: Tensor) -> LowRank:
    """A shift as a product: a vector, repeated in every column, is one of rank one."""
    if isinstance(shift, LowRank):
        return shift
    assert isinstance(shift, Tensor)
    return LowRank(shift.expand(len(base))[:, None], base.new_ones(1, base.shape[1]))
