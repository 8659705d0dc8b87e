"""Finding a model's tensors in a checkpoint that keeps them under a key of its own, or names them with a prefix."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from timm.models import clean_state_dict
from torch import Tensor

KEYS: Final = (
    *(
        "state_dict_ema",
        "model_ema",
        "ema",
        "teacher",
        "target_encoder",
        "state_dict",
        "model",
        "model_state_dict",
        "model_state",
    ),
    *("network", "net", "backbone", "base_encoder", "encoder", "student", "weights"),
)
"""Entries of a checkpoint that hold the tensors of a model; the first of equal ones is taken."""
PREFIXES: Final = (
    *("module.", "_orig_mod.", "state_dict.", "model.", "backbone.", "base_encoder.", "encoder_q.", "online_encoder."),
    *("encoder.", "teacher.", "target_encoder.", "momentum_encoder.", "encoder_k.", "student.", "network.", "net."),
    *("base_model.", "base_network.", "feature_extractor.", "features_extractor.", "image_encoder.", "vision_encoder."),
    *("visual_encoder.", "vision_model.", "visual.", "trunk.", "online_network.", "target_network.", "ema.", "vit."),
)
"""What wrappers, trainers and frameworks put before a model's names; the first of equal ones is taken."""
_OF_TIMM: Final = ("state_dict_ema", "model_ema", "state_dict", "model")
_DEPTH: Final = 4


def unwrap(checkpoint: Mapping[str, Any], names: Collection[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The part of a checkpoint that has the model's names, and the keys and prefixes that were taken off.

    What names most of the model's tensors is taken, if that is half of them and more than the checkpoint itself does;
    otherwise the checkpoint is taken as timm does, which knows other formats.

    Args:
        checkpoint: name → tensor, or key → such a mapping.
        names: of the model's tensors.
    """
    known = set(names)
    best, found = len(known & checkpoint.keys()), dict(checkpoint)
    path: tuple[str, ...] = ()
    for own_path, view in _views(checkpoint, _DEPTH):
        fitting = len(known & view.keys())
        if fitting > best and 2 * fitting >= len(known):
            best, path, found = fitting, own_path, view
    return (path, found) if path or best else _as_timm_does(found)


def _as_timm_does(checkpoint: dict[str, Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The first entry that timm knows as one of weights, and names without what parallel training puts before them."""
    key = next((key for key in _OF_TIMM if isinstance(checkpoint.get(key), Mapping) and checkpoint[key]), None)
    return (() if key is None else (f"{key!r}",)), clean_state_dict(checkpoint if key is None else checkpoint[key])


def _views(content: Mapping[str, Any], depth: int) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """What is left of the names once known keys and prefixes are taken off, in the order of preference."""
    if not depth:
        return
    nested = [(f"{key!r}", content[key]) for key in KEYS if isinstance(content.get(key), Mapping)]
    texts = [name for name in content if isinstance(name, str)]
    for prefix in PREFIXES:
        inner = {name.removeprefix(prefix): content[name] for name in texts if name.startswith(prefix)}
        if inner:
            nested.append((f"{prefix!r}", inner))
    for step, inner in nested:
        view = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
        if view:
            yield (step,), view
        for path, deeper in _views(inner, depth - 1):
            yield (step, *path), deeper
