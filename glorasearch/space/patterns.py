"""Where adapters are put by published patterns: sets of layers, by their roles.

| pattern | layers |
|---|---|
| `attention`, `mlp`, `qkv`, `proj`, `norms` | those with this role (`glorasearch.space.roles`) |
| `first half`, `last half` | of the blocks: a block is the path up to the last number that is not the last segment |

A layer outside all blocks counts to the half that it is nearer to. A pattern that has no layer, or all, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from glorasearch.choices import LayerShape
from glorasearch.space.roles import with_roles

_ROLES: Final = ("attention", "mlp", "qkv", "proj", "norms")


def patterns(layers: Sequence[LayerShape]) -> dict[str, frozenset[str]]:
    """Pattern → names of its layers, as the table says."""
    names = [layer.name for layer in layers]
    blocks = _blocks(names)
    half = (max(blocks.values(), default=0) + 1) / 2
    found = {role: [layer.name for layer in with_roles(layers) if role in layer.roles] for role in _ROLES}
    found["last half"] = [name for name in names if blocks[name] >= half]
    found["first half"] = [name for name in names if blocks[name] < half]
    return {where: frozenset(own) for where, own in found.items() if 0 < len(own) < len(names)}


def entry_layers(layers: Sequence[LayerShape]) -> frozenset[str]:
    """The first layers of attention and MLP, which read what adapters before them write."""
    return frozenset(layer.name for layer in with_roles(layers) if "entries" in layer.roles)


def _blocks(names: Sequence[str]) -> dict[str, int]:
    """Layer → the number of its block, in the order of the layers; of one outside all blocks that of the one before."""
    numbers: dict[str, int] = {}
    found: dict[str, int] = {}
    for name in names:
        segments = name.split(".")
        inside = [index for index, segment in enumerate(segments[:-1]) if segment.isdecimal()]
        if inside:
            found[name] = numbers.setdefault(".".join(segments[: inside[-1] + 1]), len(numbers))
        else:
            found[name] = max(0, len(numbers) - 1)
    return found
