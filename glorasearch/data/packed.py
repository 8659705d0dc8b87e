"""A search split as a dictionary of tensors, so that the processes of a machine can share its memory."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

import torch
from torch import Tensor

from glorasearch.data.input_spec import InputSpec
from glorasearch.data.pixels import ResidentPixels
from glorasearch.data.splits import SearchSplit
from glorasearch.errors import DataError
from glorasearch.tasks import task_from

_MULTIPLE: Final = 64
_CPU = torch.device("cpu")


def pack_search_split(split: SearchSplit, *, normalised: bool) -> dict[str, Tensor]:
    """The tensors from which `unpack_search_split` makes the same split.

    Args:
        split: with its images in memory.
        normalised: include the images as float32, if a split of this size keeps them.

    Raises:
        DataError: if the images are not in memory.
    """
    if not split.resident:
        raise DataError("the search split is decoded on demand: there is nothing in memory to pack")
    facts = {"spec": asdict(split.spec), "classes": split.classes, "origin": split.origin, **split.task.facts}
    tensors = {
        "pixels": _padded(split._pixels.gather(torch.arange(len(split)))),
        "labels": split.labels,
        "fingerprints": torch.frombuffer(bytearray(b"".join(split._fingerprints)), dtype=torch.uint8),
        "facts": torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8),
    }
    ready = split._normalised_on(_CPU) if normalised else None
    return tensors if ready is None else tensors | {"normalised": _padded(ready)}


def unpack_search_split(tensors: Mapping[str, Tensor]) -> SearchSplit:
    """The split, without copying its images; its digest is recomputed from the content."""
    facts = json.loads(bytes(tensors["facts"].tolist()))
    joined = bytes(tensors["fingerprints"].tolist())
    count = len(tensors["labels"])
    size = len(joined) // count
    spec = InputSpec(**facts["spec"])
    shape = (count, spec.channels, spec.height, spec.width)
    split = SearchSplit(
        ResidentPixels(tensors["pixels"][: math.prod(shape)].view(shape)),
        tensors["labels"],
        spec,
        [joined[size * index : size * (index + 1)] for index in range(count)],
        facts["classes"],
        facts["origin"],
        task_from(facts),
    )
    if "normalised" in tensors:
        split._normalised[_CPU] = tensors["normalised"][: math.prod(shape)].view(shape)
    return split


def _padded(images: Tensor) -> Tensor:
    """Flattened and padded with zeros to a multiple of 64 elements, the size that can be mapped without a copy."""
    flat = images.reshape(-1)
    return torch.cat([flat, flat.new_zeros(-len(flat) % _MULTIPLE)])
