"""What the workers of one machine share: made by the first of them, mapped into memory by all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import timm
from torch import Tensor, nn

from glorasearch.adapters import frozen_tensors, head_names
from glorasearch.backbone import BackboneConfig, build_backbone, build_skeleton
from glorasearch.data import (
    DataConfig,
    InputSpec,
    SearchSplit,
    load_search_split,
    pack_search_split,
    unpack_search_split,
)
from glorasearch.errors import EvaluationError
from glorasearch.weights import NodeCache, tensor_digest

_FORMAT: Final = 2
"""Part of every key; increased when the content stored under it changes."""


def shared_backbone(cache: NodeCache, config: BackboneConfig, classes: int, digest: str) -> nn.Module:
    """The backbone whose frozen weights have this digest, memory-mapped; the parameters of its head are arbitrary.

    The first process of a node builds it (and downloads it if necessary); the others build a model without weights.

    Raises:
        BackboneError: if it cannot be built.
        EvaluationError: if the backbone built here has another digest.
    """

    def make() -> dict[str, Tensor]:
        model = build_backbone(config, classes)
        kept = frozen_tensors(model)
        check_backbone(digest, tensor_digest(kept))
        known = model.state_dict().keys()
        return kept | {name: value for name, value in model.named_buffers() if name not in known}

    key = f"backbone {_FORMAT} {digest} {config.model_dump_json()} {classes} classes timm {timm.__version__}"
    tensors = cache.remember(key, make)
    model = build_skeleton(config, classes)
    for head in head_names(model):
        model.get_submodule(head).to_empty(device="cpu")
    _fill(model, tensors)
    if any(tensor.is_meta for tensor in _tensors(model)):  # `_tensors` does not find all places that have values
        model = build_backbone(config, classes)
        _fill(model, tensors)
    return model.eval()


def shared_search_split(
    cache: NodeCache, config: DataConfig, spec: InputSpec, digest: str, *, cpu: bool
) -> SearchSplit:
    """The search split of this digest, memory-mapped; if it is too large for memory, images are decoded on demand.

    Raises:
        DataError: if the source cannot be read.
        EvaluationError: if the split found here has another digest.
    """
    unpacked: list[SearchSplit] = []

    def make() -> dict[str, Tensor]:
        split = load_search_split(config, spec)
        check_split(digest, split, config)
        if not split.resident:
            unpacked.append(split)
            raise _NotInMemoryError
        return pack_search_split(split, normalised=cpu)

    try:
        split = unpack_search_split(cache.remember(f"search split {_FORMAT} {digest} {'cpu' if cpu else 'gpu'}", make))
    except _NotInMemoryError:
        return unpacked[0]
    check_split(digest, split, config)
    return split


def check_backbone(expected: str | None, found: str) -> None:
    """Raise `EvaluationError` unless the backbone is the one on which the weights were trained."""
    if expected != found:
        raise EvaluationError(
            f"the weights were trained on a backbone with digest {str(expected)[:12]}, this one has {found[:12]}: the "
            "pretrained weights differ; use the same file on every machine"
        )


def check_split(expected: str, split: SearchSplit, config: DataConfig) -> None:
    """Raise `EvaluationError` unless the split is the one with which the search was started."""
    if split.digest != expected:
        raise EvaluationError(
            f"the search split found here ({split.digest[:12]}) is not the one of the search ({expected[:12]}): the "
            f"images under {config.source!r} differ on this machine"
        )


class _NotInMemoryError(Exception):
    """The split is decoded on demand."""


def _fill(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Replace parameters and buffers by these tensors, without a copy."""
    for name, tensor in tensors.items():
        parent, _, own = name.rpartition(".")
        module = model.get_submodule(parent)
        if own in module._parameters:
            module._parameters[own] = nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
        else:
            module._buffers[own] = tensor


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """All tensors of the modules: parameters, buffers and plain attributes."""
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        for value in vars(module).values():
            several = value.values() if isinstance(value, dict) else value
            items = several if isinstance(value, (dict, list, tuple)) else [value]
            yield from (item for item in items if isinstance(item, Tensor))
