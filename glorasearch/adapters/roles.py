"""What a timm model says about its layers: which are of the stem, which of the head, which are 1x1 convolutions."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import nn

from glorasearch.choices import LayerShape
from glorasearch.space.roles import is_head, is_stem, with_roles


def layers_with_roles(model: nn.Module, layers: Collection[LayerShape]) -> list[LayerShape]:
    """The layers of a backbone with their roles (`glorasearch.space.roles`)."""
    modules = dict(model.named_modules())
    stem = _stem(model, [layer.name for layer in layers])
    head = _head_modules(model)
    parts = {}
    for layer in layers:
        if is_head(layer.name) or any(layer.name.startswith(f"{module}.") for module in head):
            parts[layer.name] = "head"
        elif stem(layer.name):
            parts[layer.name] = "stem"
    pointwise = {layer.name for layer in layers if _is_pointwise(modules[layer.name])}
    return with_roles(list(layers), parts, pointwise)


def _is_pointwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1


def _head_modules(model: nn.Module) -> set[str]:
    """The modules at the top of the tree that hold a classifier and more."""
    cfg = getattr(model, "pretrained_cfg", None)
    given = cfg.get("classifier") if isinstance(cfg, Mapping) else None
    names = [given] if isinstance(given, str) else list(given or ())
    return {name.partition(".")[0] for name in names if "." in name}


def _stem(model: nn.Module, names: Iterable[str]) -> Callable[[str], bool]:
    """Whether a layer is of the stem: as timm's layer groups have it, or by its name where there are none."""
    matcher = _group_matcher(model)
    if isinstance(matcher, Mapping) and isinstance(matcher.get("stem"), str):
        pattern = re.compile(matcher["stem"])
        grouped = {name for name in names if pattern.match(name)}
    elif callable(matcher):
        groups = {name: matcher(f"{name}.weight") for name in names}
        first = min((group for group in groups.values() if isinstance(group, int)), default=None)
        grouped = {name for name, group in groups.items() if group == first}
    else:
        return is_stem
    return grouped.__contains__ if grouped else is_stem


def _group_matcher(model: nn.Module) -> Any:
    """Timm's `group_matcher`; some models have none, or none for coarse groups, or one in place of its result."""
    try:
        return model.group_matcher(coarse=True)  # type: ignore[operator]
    except (AttributeError, AssertionError, NotImplementedError, TypeError):
        return None
