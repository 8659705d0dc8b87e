"""How a search space chooses layers: by patterns of names (`*.attn.qkv`) and by roles (`@attention`)."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, get_args

from glorasearch.choices import Kind, LayerShape
from glorasearch.errors import SearchSpaceError
from glorasearch.space.roles import ROLES

_OR: Final = " or "


def check_selectors(selectors: Sequence[str]) -> None:
    """Raise `ValueError` if one of them asks for a role that there is not."""
    for selector in selectors:
        for one in selector.split(_OR):
            if one.startswith("@") and one[1:] not in ROLES:
                near = difflib.get_close_matches(one[1:], ROLES, n=1, cutoff=0.5)
                raise ValueError(
                    f"unknown role {one!r}{f' (did you mean @{near[0]}?)' if near else ''}; roles are "
                    f"{', '.join(f'@{role}' for role in ROLES)}; a pattern of names is written without @"
                )


def is_of_types(layer: LayerShape, types: Sequence[Kind]) -> bool:
    """Whether a layer is of one of some types; 1x1 convolutions are linear layers, too."""
    return layer.kind in types or ("linear" in types and "pointwise" in layer.roles)


@dataclass(frozen=True, slots=True)
class Backbone:
    """What there is to choose from."""

    layers: Sequence[LayerShape]
    """Of the types that a space adapts."""
    others: Sequence[LayerShape] = ()
    """Of other types."""
    refused: Mapping[str, str] | None = None
    """Layers that cannot be adapted, and why."""


def select(
    selectors: Sequence[str], key: str, backbone: Backbone, *, needed: bool = True, said: list[str] | None = None
) -> set[str]:
    """The names of the layers that any of the selectors takes.

    Of alternatives (`@proj or @body`) the first that takes a layer counts. In a pattern, `*` is any characters, dots
    included, `?` any one, `[ab]` one of these.

    Args:
        selectors: as a space has them.
        key: their key in the file, for messages.
        backbone: what to choose from.
        needed: whether it is an error if roles take nothing; a pattern has to match in any case.
        said: is given a word for every selector of which another alternative than the first was taken.

    Raises:
        SearchSpaceError: naming `key`, what there is, and what to write.
    """
    chosen: set[str] = set()
    for selector in selectors:
        alternatives = selector.split(_OR)
        taken = [(one, names) for one in alternatives if (names := _matches(one, backbone.layers))][:1]
        found = taken[0][1] if taken else set()
        if taken and taken[0][0] != alternatives[0] and said is not None:
            said.append(f"{key}: there is no {alternatives[0]} here, so {taken[0][0]} is taken: {len(found)} layers")
        if not found and not any(one.startswith("@") for one in alternatives):
            raise SearchSpaceError(_unmatched(selector, key, backbone))
        chosen |= found
    if needed and not chosen:
        raise SearchSpaceError(_without_roles(selectors, key, backbone))
    return chosen


def _matches(selector: str, layers: Sequence[LayerShape]) -> set[str]:
    if selector.startswith("@"):
        return {layer.name for layer in layers if selector[1:] in layer.roles}
    return {layer.name for layer in layers if fnmatchcase(layer.name, selector)}


def _unmatched(pattern: str, key: str, backbone: Backbone) -> str:
    known = [layer.name for layer in backbone.layers]
    found = f"{key}: pattern {pattern!r} matches none of {len(known)} layers"
    elsewhere = [layer for layer in backbone.others if fnmatchcase(layer.name, pattern)]
    if elsewhere:
        return (
            f"{found} of the types that the space adapts; it matches {len(elsewhere)} of another type, such as "
            f"{elsewhere[0].name}: set layers.types = {_types_with(elsewhere, backbone)}"
        )
    refused = {name: why for name, why in (backbone.refused or {}).items() if fnmatchcase(name, pattern)}
    if refused:
        return f"{found}; what it matches cannot be adapted: {_reasons(refused)}"
    if not known:
        return f"{found}; {_nothing(backbone)}"
    near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.3) or known[:3]
    if backbone.others:
        kinds = ", ".join(sorted({layer.kind for layer in backbone.others}))
        found += f" of its layers.types, and none of {len(backbone.others)} of other types ({kinds})"
    return (
        f"{found}; the nearest are {', '.join(near)}. Roles do not depend on names: @body takes all layers but stem "
        "and head; `glorasearch space NAME --backbone MODEL` lists the layers"
    )


def _types_with(wanted: Sequence[LayerShape], backbone: Backbone) -> str:
    """What `layers.types` has to be so that these layers are among those to choose from, and no others are lost."""
    kinds = {layer.kind for layer in backbone.layers if "pointwise" not in layer.roles}
    if "conv2d" not in kinds and any("pointwise" in layer.roles for layer in backbone.layers):
        kinds.add("linear")
    kinds |= {layer.kind for layer in wanted}
    return json.dumps([kind for kind in get_args(Kind) if kind in kinds])


def _without_roles(selectors: Sequence[str], key: str, backbone: Backbone) -> str:
    asked = " and ".join(repr(selector) for selector in selectors)
    if not backbone.layers:
        return f"{key}: {asked} takes none of 0 layers; {_nothing(backbone)}"
    counts = {role: sum(role in layer.roles for layer in backbone.layers) for role in ROLES}
    has = ", ".join(f"@{role} {count}" for role, count in counts.items() if count)
    elsewhere = {layer.kind for layer in backbone.others if _taken(selectors, layer)}
    hint = "".join(f'; of another type there are some: add "{kind}" to layers.types' for kind in sorted(elsewhere))
    return f"{key}: {asked} takes none of {len(backbone.layers)} layers; this backbone has {has}{hint}"


def _taken(selectors: Sequence[str], layer: LayerShape) -> bool:
    return any(_matches(one, [layer]) for selector in selectors for one in selector.split(_OR))


def _nothing(backbone: Backbone) -> str:
    """Why there is nothing to choose from."""
    said = []
    kinds = sorted({layer.kind for layer in backbone.others})
    if kinds:
        said.append(f"the backbone has {len(backbone.others)} of other types ({', '.join(kinds)}): set layers.types")
    if backbone.refused:
        said.append(f"{len(backbone.refused)} layers cannot be adapted: {_reasons(backbone.refused)}")
    return "; ".join(said) or "there are no such layers"


def _reasons(refused: Mapping[str, str]) -> str:
    """Layers that cannot be adapted, those with one reason together."""
    reasons: dict[str, list[str]] = {}
    for name, why in refused.items():
        reasons.setdefault(why, []).append(name)
    return "; ".join(f"{compact(names)} ({why})" for why, names in reasons.items())


def compact(names: Sequence[str], others: Sequence[str] = ()) -> str:
    """All of these names in few words: those that differ in numbers only as one pattern, with their number.

    Each pattern matches exactly the names for which it stands, and none of `others`, so that it may be pasted into
    `layers.exclude`.
    """
    patterns: dict[str, list[str]] = {}
    for name in names:
        patterns.setdefault(re.sub(r"(?<![^.])\d+(?![^.])", "*", name), []).append(name)
    said = []
    for pattern, own in patterns.items():
        known = {*own}
        exact = len(own) > 1 and not any(fnmatchcase(name, pattern) for name in (*others, *names) if name not in known)
        said += [f"{pattern} ({len(own)})"] if exact else own
    return ", ".join(said)
