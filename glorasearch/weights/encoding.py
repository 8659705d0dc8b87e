"""Tensors to and from the bytes of a safetensors file, and what can be said of damaged ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from glorasearch.errors import WeightsCorruptError, WeightStoreError
from glorasearch.weights.digest import TensorEntry, first_difference, storable, tensor_entries

_LENGTH_BYTES = 8


def encode(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file of the tensors.

    Raises:
        WeightStoreError: if a tensor's dtype does not exist in safetensors.
    """
    try:
        content: bytes = safetensors.torch.save(storable(tensors), metadata)
    except (KeyError, ValueError, SafetensorError) as error:
        raise WeightStoreError(f"the tensors cannot be written as safetensors: {error}") from error
    return content


def decode(content: bytes, expected: Mapping[str, TensorEntry], source: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, each checked by its entry. They own their memory: no file is mapped.

    Raises:
        WeightsCorruptError: naming `source`, the first bad tensor, and the expected and the found checksum.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
    except SafetensorError as error:
        what = _first_bad_span(content, expected) or "the header is damaged"
        raise WeightsCorruptError(f"{source}: truncated or altered: {what} ({error})") from error
    difference = first_difference(expected, tensor_entries(tensors))
    if difference is not None:
        raise WeightsCorruptError(f"{source}: altered: {difference}")
    return tensors


def read_metadata(content: bytes) -> dict[str, str] | None:
    """The metadata of a safetensors file; None if its header is damaged."""
    header = _read_header(content)
    if header is None:
        return None
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict):
        return None
    return {key: value for key, value in metadata.items() if isinstance(value, str)}


def _first_bad_span(content: bytes, expected: Mapping[str, TensorEntry]) -> str | None:
    """The first tensor, in the order of the file, whose bytes are incomplete or altered, in words."""
    header = _read_header(content)
    if header is None:
        return None
    start_of_data = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    spans: list[tuple[int, int, str]] = []
    for name, item in header.items():
        offsets = item.get("data_offsets") if name in expected and isinstance(item, dict) else None
        if isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(offset, int) for offset in offsets):
            spans.append((offsets[0], offsets[1], name))
    for begin, end, name in sorted(spans):
        data = content[start_of_data + begin : start_of_data + end]
        found = hashlib.sha256(data).hexdigest()
        if found != expected[name].sha256:
            size = f"{len(data)} of {end - begin} bytes are there; " if len(data) != end - begin else ""
            return f"tensor {name!r}: {size}expected checksum {expected[name].sha256}, found {found}"
    return None


def _read_header(content: bytes) -> dict[str, dict[str, object]] | None:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    try:
        header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    except ValueError:
        return None
    return header if isinstance(header, dict) else None
