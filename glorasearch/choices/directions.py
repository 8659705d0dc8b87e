"""Task-specific directions: the singular directions of W0 that an update changes most (arXiv 2409.01035)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from glorasearch.choices.base import Choice, Options, Site

if TYPE_CHECKING:
    from torch import Tensor

EPSILON: Final = 1e-6
"""Added to the singular values in a denominator."""
NULL: Final = 1e-5
"""Singular values below this fraction of the largest count as zero; their directions come last."""


@dataclass(frozen=True, slots=True)
class Directions:
    """Directions sorted by relative change, largest first: `left (out, k)`, `values (k,)`, `right (k, in)`."""

    left: Tensor
    values: Tensor
    right: Tensor


def task_directions(base: Tensor, down: Tensor, up: Tensor, count: int, stacked: int = 1) -> Directions:
    """The directions with the largest δ_i = |u_iᵀ·ΔW·v_i| / (|σ_i| + ε), ΔW = down·up, which is never formed.

    Args:
        base: W0 `(out, in)`.
        down: `(out, r)`.
        up: `(r, in)`.
        count: number of directions.
        stacked: number of weights stacked in W0, each decomposed by itself (a fused qkv: 3). A left direction is then
            zero outside its own rows, and the largest changes over all of the weights are taken.

    Deviation: directions in the null space of W0 (σ below `NULL` of the largest) come last; δ would rank them first.
    """
    import torch

    wide = torch.promote_types(base.dtype, torch.float32)
    found = []
    for block, part in zip(base.to(wide).chunk(stacked), down.to(wide).chunk(stacked), strict=True):
        left, values, right = (t.to(base.device) for t in _CACHE.decomposed(block.cpu()))
        changes = ((left.T @ part) * (up.to(wide) @ right.T).T).sum(1).abs() / (values.abs() + EPSILON)
        changes[values < NULL * values[0]] = -1.0
        found.append((changes, left, values, right))
    ranking = torch.cat([changes for changes, *_ in found])
    each = len(ranking) // stacked
    picked = ranking.argsort(descending=True, stable=True)[:count].tolist()
    rows = base.shape[0] // stacked
    result = base.new_zeros(base.shape[0], count), base.new_zeros(count), base.new_zeros(count, base.shape[1])
    for place, index in enumerate(picked):
        block_number, own = divmod(index, each)
        _, left, values, right = found[block_number]
        result[0][block_number * rows : (block_number + 1) * rows, place] = left[:, own].to(base.dtype)
        result[1][place] = values[own]
        result[2][place] = right[own].to(base.dtype)
    return Directions(*result)


class _Decompositions:
    """A least-recently-used cache of singular value decompositions, keyed by the content of the weight.

    Several choices decompose the same weight, LoRA-TSD twice. Always on the CPU: a GPU takes longer, and the signs
    should not depend on the device.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[Tensor, Tensor, Tensor]] = OrderedDict()
        self._bytes = 0
        self.made = 0
        """Number of decompositions computed."""

    def decomposed(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """U, σ and Vᵀ of a weight `(out, in)` on the CPU."""
        import torch

        content = weight.detach().contiguous().numpy()
        key = hashlib.sha256(f"{content.shape}{content.dtype}".encode() + content.tobytes()).digest()
        if key not in self._known:
            self.made += 1
            found = torch.linalg.svd(weight, full_matrices=False)
            self._known[key] = found[0], found[1], found[2]
            self._bytes += sum(part.nbytes for part in found)
            while self._bytes > CACHE_BYTES and len(self._known) > 1:
                self._bytes -= sum(part.nbytes for part in self._known.popitem(last=False)[1])
        self._known.move_to_end(key)
        return self._known[key]


CACHE_BYTES: Final = 2**30
"""Memory for decompositions; those of a ViT-B/16 take 0.7 GB."""
_CACHE: Final = _Decompositions()


def most_directions(outs: int, ins: int, stacked: int) -> int:
    """Number of directions of a weight."""
    return stacked * min(outs // stacked, ins)


class Directed(Choice):
    """A choice in B that selects task-specific directions after a warm-up, counted in optimiser steps that drew it.

    Options: `scale` is s, `warmup` the number of optimiser steps of one phase.
    """

    tensors = "B"
    defaults: ClassVar[Options] = {"scale": 1.0, "warmup": 100.0}
    positive = ("scale",)
    whole: ClassVar[Mapping[str, int]] = {"warmup": 1}
    watches = True
    phases: ClassVar[int] = 1
    """Number of consecutive warm-ups."""

    @classmethod
    def ended(cls, draws: int, site: Site) -> int:
        """The phase that ends with this draw, counted from 1; 0 if none does."""
        phase, rest = divmod(draws, int(site.options["warmup"]))
        return phase if rest == 0 and phase <= cls.phases else 0

    @classmethod
    def warming(cls, draws: int, site: Site) -> bool:
        """True until all directions are chosen."""
        return draws < cls.phases * int(site.options["warmup"])
