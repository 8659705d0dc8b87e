"""What a layer does in its backbone, whatever the family calls it: the roles by which search spaces choose layers.

Every layer has one part of the backbone: `body`, `stem`, `position` or `head`. One of the body may have more roles.
They follow from the names in the module tree, since timm's families share these: a module whose children are called
`qkv`, `to_q`, `query` or the like is an attention, one called `mlp` or `ffn` or with `fc1` and `fc2` (or the
like) in it an MLP. Linear layers and 1x1 convolutions are one thing here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

from glorasearch.choices import LayerShape

ROLES: Final = {
    "body": "every layer but those of stem, position encodings and head",
    "stem": "what reads the image: the patch embedding, the first convolutions",
    "position": "position encodings: tables, and what is computed from or added as positions",
    "head": "pretrained layers of the head module, in front of the classifier (attention pooling, too)",
    "attention": "attention: the modules that have queries, keys or values",
    "qkv": "of attention, what reads: queries, keys and values, fused or not",
    "query": "of these, the queries, alone or fused",
    "value": "of these, the values, alone or fused",
    "proj": "of attention, what writes: the output projection",
    "mlp": "MLPs",
    "fc1": "of MLPs, what reads: every layer but the last",
    "fc2": "of MLPs, what writes: the last layer",
    "entries": "what reads in attention and MLP: qkv and fc1",
    "gates": "squeeze and excitation, and other gates of channels",
    "downsampling": "between the stages: patch merging and the like",
    "pointwise": "1x1 convolutions",
    "norms": "norms",
}
"""Role → what it is; written with @ in front in the lists of a search space."""
PARTS: Final = ("body", "stem", "position", "head")
"""Of these every layer has exactly one."""

_STEM: Final = re.compile(
    r"^((encoder|trunk|backbone|visual)\.)?(stem\w*|conv_stem|patch_embed\w*|pixel_embed|embeds|norm_pre)\."
)
_HEAD: Final = re.compile(r"^(attn_pool|pre_logits|head_dist|aux_head|pooler)$")
_POSITION: Final = re.compile(
    r"^(pos|pos_\w+|rel_pos\w*|\w+_rel_pos\w*|\w+_pos_(embed\w*|bias\w*)|(rel\w*_|abs\w*_)?position\w*|c?r?pe\d*|cpb_mlp|meta_mlp)$"
)
_READS: Final = re.compile(
    r"^((to_|in_|w)?(qkvs?|q|k|v|kv|qk|qv)(_proj|_gate)?|(to_|in_)?(query|key|value)s?(_proj)?|in_proj)$"
)
_QUERY: Final = re.compile("q|in_proj")
_VALUE: Final = re.compile("v|in_proj")
_WRITES: Final = re.compile(r"^(proj|out_proj|to_out|o_proj|out|output|projection)$")
_ATTENTION: Final = re.compile(r"attn|attention|^e?_?mh[cs]?a$")
_GATE: Final = re.compile(r"^(se|se_module|eca|cbam|gate)$")
_SQUEEZES: Final = re.compile(r"^(fc\d?|fc_\w+|conv|conv_(reduce|expand)|bn\d?|ln\d?|norm)$")
_MLP: Final = re.compile(r"mlp|^(ffn\d*|feed_forward|channel_mixer)$")
_MLP_LEAF: Final = re.compile(r"^(fc\d?|fc1_[gx]|lin[12]|w[0-3]|w12|pwconv\d)$")
_LAST: Final = re.compile(r"^(fc2|lin2|w3|pwconv2)$")
_BETWEEN: Final = re.compile(r"^(pool|downsample\w*|patch_merg\w*|transition\d*|conv_down)$")
_WRAPPER: Final = re.compile(r"^(\d+|conv|linear|c|l|ln|m|fn|main|module)$")
"""Segments behind the one that says what a layer is."""


def with_roles(
    layers: Sequence[LayerShape], parts: Mapping[str, str] | None = None, pointwise: AbstractSet[str] = frozenset()
) -> list[LayerShape]:
    """The layers with their roles; those that have some keep them.

    Args:
        layers: all layers of the backbone outside its classifier, in its order.
        parts: the layers of `stem` and `head`, if the model says which these are; else all go by their names.
        pointwise: the 1x1 convolutions.
    """
    tree = _Tree(layers, parts)
    named = {layer.name: _roles(layer, tree, layer.name in pointwise) for layer in layers}
    _order_mlps(layers, named, tree)
    return [layer if layer.roles else replace(layer, roles=frozenset(named[layer.name])) for layer in layers]


def is_stem(name: str) -> bool:
    """Whether a layer is of the stem by its name: a patch embedding or the like at the top of the module tree."""
    return _STEM.match(f"{name}.") is not None


def is_head(name: str) -> bool:
    """Whether a layer is of the head by its name: an attention pool or the like at the top of the module tree."""
    return _HEAD.match(name.partition(".")[0]) is not None


def _named_part(name: str) -> str:
    return "head" if is_head(name) else "stem" if is_stem(name) else ""


class _Tree:
    """What the names of all layers say together."""

    def __init__(self, layers: Sequence[LayerShape], parts: Mapping[str, str] | None) -> None:
        self._parts = {layer.name: _named_part(layer.name) for layer in layers} if parts is None else parts
        self._norms = {layer.name for layer in layers if layer.kind == "norm"}
        self._children: dict[str, set[str]] = {}
        """Module → its children that have layers."""
        for name in [layer.name for layer in layers]:
            segments = name.split(".")
            for index, segment in enumerate(segments):
                self._children.setdefault(".".join(segments[:index]), set()).add(segment)

    def part(self, name: str) -> str:
        """The part of the backbone that a layer belongs to."""
        if self._parts.get(name):
            return self._parts[name]
        return "position" if any(_POSITION.match(segment) for segment in name.split(".")) else "body"

    def attention(self, name: str) -> str:
        """The attention module that a layer is in, the innermost; empty for none."""
        segments = name.split(".")
        for end in range(len(segments) - 1, 0, -1):
            module = ".".join(segments[:end])
            if any(_READS.match(child) for child in self._children[module]):
                return module
        for end in range(len(segments), 0, -1):
            if _ATTENTION.search(segments[end - 1]) and not self.gate(".".join(segments[:end])):
                return ".".join(segments[:end])
        return ""

    def gate(self, module: str) -> bool:
        """Whether a module, by its name, its place or its children, weights channels."""
        parent, _, own = module.rpartition(".")
        if _GATE.match(own):
            return True
        children = self._children.get(module, set())
        if re.match(r"^fc\d$", own):  # split attention: `conv2.conv`, `conv2.fc1`
            return bool(re.match(r"^conv\d*$", parent.rpartition(".")[2]))
        return bool(_ATTENTION.search(own) and children and all(_SQUEEZES.match(child) for child in children))

    def between(self, name: str) -> bool:
        """Whether a layer lies between stages; what has the same name in a residual block is its shortcut."""
        segments = name.split(".")
        for index, segment in enumerate(segments):
            if _BETWEEN.match(segment):
                own = [".".join([*segments[:index], child]) for child in self._children[".".join(segments[:index])]]
                beside = [module for module in own if not name.startswith(f"{module}.") and module not in self._norms]
                return index == 0 or not any(self._is_leaf(module) for module in beside)
        return False

    def pairs(self, name: str) -> bool:
        """Whether a layer, such as `fc1`, has another of an MLP beside it; a lone `fc` makes none."""
        segments = name.split(".")
        while len(segments) > 1 and _WRAPPER.match(segments[-1]):
            segments.pop()
        return sum(_MLP_LEAF.match(child) is not None for child in self._children[".".join(segments[:-1])]) > 1

    def _is_leaf(self, name: str) -> bool:
        """Whether a module is a layer, or wraps one (`conv1.conv`), perhaps with a norm."""
        children = [f"{name}.{child}" for child in self._children.get(name, set()) if not child.isdecimal()]
        inside = [child for child in children if child not in self._norms]
        return not self._children.get(name) or (len(inside) == 1 and self._is_leaf(inside[0]))


def _roles(layer: LayerShape, tree: _Tree, pointwise: bool) -> set[str]:
    """All roles but those that depend on the order of an MLP's layers."""
    part = tree.part(layer.name)
    roles = {part, *["norms"] * (layer.kind == "norm"), *["pointwise"] * pointwise}
    if part != "body":
        return roles
    segments = layer.name.split(".")
    if tree.between(layer.name):
        roles.add("downsampling")
    if any(tree.gate(".".join(segments[:end])) for end in range(1, len(segments) + 1)):
        return roles | {"gates"}
    attention = tree.attention(layer.name)
    inside = segments[attention.count(".") + 1 :] if attention else segments
    if any(_MLP.search(segment) for segment in inside) or (
        not attention and _leaf(segments, _MLP_LEAF) and tree.pairs(layer.name)
    ):
        return roles | {"mlp"}
    if not attention:
        return roles
    roles.add("attention")
    reads = next((segment for segment in inside if _READS.match(segment)), "")
    if reads:
        roles |= {"qkv", "entries", *["query"] * bool(_QUERY.search(reads)), *["value"] * bool(_VALUE.search(reads))}
    elif _leaf(segments, _WRITES):
        roles.add("proj")
    return roles


def _leaf(segments: Sequence[str], pattern: re.Pattern[str]) -> bool:
    """Whether the last segment that is no wrapper matches."""
    known = [segment for segment in segments if not _WRAPPER.match(segment)] or segments
    return pattern.match(known[-1]) is not None


def _order_mlps(layers: Sequence[LayerShape], named: Mapping[str, set[str]], tree: _Tree) -> None:
    """Add `fc1`, `fc2` and `entries`: of the products of an MLP the last one writes, the others read."""
    mlps: dict[str, list[str]] = {}
    for layer in layers:
        own = named[layer.name]
        if "mlp" in own and (layer.kind == "linear" or "pointwise" in own):
            mlps.setdefault(_mlp_module(layer.name), []).append(layer.name)
    for names in mlps.values():
        *first, last = names
        if not first and not _leaf(last.split("."), _LAST):
            first, last = [last], ""
        for name in first:
            named[name].update(("fc1", "entries"))
        if last:
            named[last].add("fc2")


def _mlp_module(name: str) -> str:
    """The MLP that a layer is in: up to the last segment that says so, else its parent."""
    segments = name.split(".")
    ends = [index for index, segment in enumerate(segments) if _MLP.search(segment)]
    return ".".join(segments[: ends[-1] + 1]) if ends else name.rpartition(".")[0]
