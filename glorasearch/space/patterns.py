"""Where adapters are put by published patterns: sets of layers, found by the segments of the layers' names.

| pattern | layers |
|---|---|
| `attention` | with a segment that has `attn` or `attention` in it |
| `mlp` | with a segment that has `mlp` in it, or is `ffn`, `fc1`, `fc2`, ... |
| `qkv` | of the attention, what reads: the last segment is `qkv`, `q`, `k`, `v`, `kv`, `q_proj`, `query`, ... |
| `proj` | of the attention, what writes: the last segment is `proj`, `out_proj`, `to_out`, ... |
| `norms` | the norms |
| `first half`, `last half` | of the blocks: a block is the path up to the last number that is not the last segment |

A layer outside all blocks counts to the half that it is nearer to. A pattern that has no layer, or all, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from glorasearch.choices import LayerShape

_ATTENTION: Final = re.compile("attn|attention")
_MLP: Final = re.compile(r"mlp|^(ffn|feed_forward|fc\d?|fc1_[gx]|lin[12]|w[123])$")
_QKV: Final = re.compile(r"^((to_|in_)?(qkv|q|k|v|kv|qk)(_proj)?|query|key|value|in_proj)$")
_PROJ: Final = re.compile(r"^(proj|out_proj|to_out|o_proj|out)$")
_FIRST: Final = re.compile(r"^(fc1|fc1_[gx]|fc|lin1|w1|w2|w12)$")


def patterns(layers: Sequence[LayerShape]) -> dict[str, frozenset[str]]:
    """Pattern → names of its layers, as the table says."""
    names = [layer.name for layer in layers]
    blocks = _blocks(names)
    half = (max(blocks.values(), default=0) + 1) / 2
    found = {
        "attention": [name for name in names if _attention(name)],
        "mlp": [name for name in names if _mlp(name)],
        "qkv": [name for name in names if _attention(name) and _ends(name, _QKV)],
        "proj": [name for name in names if _attention(name) and _ends(name, _PROJ)],
        "norms": [layer.name for layer in layers if layer.kind == "norm"],
        "last half": [name for name in names if blocks[name] >= half],
        "first half": [name for name in names if blocks[name] < half],
    }
    return {where: frozenset(own) for where, own in found.items() if 0 < len(own) < len(names)}


def entry_layers(layers: Sequence[LayerShape]) -> frozenset[str]:
    """The first layers of attention and MLP, which read what adapters before them write."""
    names = [layer.name for layer in layers]
    return frozenset(
        name for name in names if (_attention(name) and _ends(name, _QKV)) or (_mlp(name) and _ends(name, _FIRST))
    )


def _attention(name: str) -> bool:
    return any(_ATTENTION.search(segment) for segment in name.split("."))


def _mlp(name: str) -> bool:
    return not _attention(name) and any(_MLP.search(segment) for segment in name.split("."))


def _ends(name: str, pattern: re.Pattern[str]) -> bool:
    return pattern.match(name.rpartition(".")[2]) is not None


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
