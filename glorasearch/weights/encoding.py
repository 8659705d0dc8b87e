"""Tensors to and from safetensors files, in memory of their own or mapped, and what is wrong with damaged files."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from glorasearch.bounded import parse_json
from glorasearch.errors import WeightsCorruptError, WeightStoreError
from glorasearch.weights.digest import TensorEntry, first_difference, storable, tensor_entries

_LENGTH_BYTES = 8
ALIGNMENT = 64
"""Bytes; torch aligns its own allocations likewise."""


def encode(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file of the tensors, laid out for mapping.

    Tensors whose size is a multiple of 64 bytes come first, so each of them begins at a multiple of 64 bytes.

    Raises:
        WeightStoreError: if a tensor's dtype does not exist in safetensors.
    """
    try:
        content: bytes = safetensors.torch.save(storable(tensors), metadata)
    except (KeyError, ValueError, SafetensorError) as error:
        raise WeightStoreError(f"the tensors cannot be written as safetensors: {error}") from error
    return _aligned(content)


def decode(content: bytes, expected: Mapping[str, TensorEntry], source: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, each verified against its entry. They own their memory: no file is mapped.

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


def map_file(file: BinaryIO, expected: Mapping[str, TensorEntry], path: Path) -> dict[str, Tensor]:
    """The tensors of an open safetensors file whose content has been verified; the file may be closed afterwards.

    The tensors are views of a private mapping, so processes that map the same file share its memory; one that writes
    into a tensor gets its own copy of those pages, and the file does not change. The mapping lives as long as a tensor
    does, and so does a lock on the file, because the mapping keeps a duplicate of its descriptor. A tensor that does
    not begin at a multiple of 64 bytes is copied, since arithmetic could take another path on it than on aligned
    memory; `encode` puts such tensors, small or odd, last.

    Raises:
        WeightsCorruptError: if the header is damaged or lists other tensors.
    """
    mapping = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    spans = tensor_spans(mapping)
    if spans is None or spans.keys() != expected.keys():
        raise WeightsCorruptError(f"{path}: altered: its header lists other tensors than its manifest")
    return {name: _view(mapping, name, spans[name], expected[name], path) for name in sorted(expected)}


def read_metadata(content: bytes) -> dict[str, str] | None:
    """The metadata of a safetensors file; None if its header is damaged."""
    header = _read_header(content)
    if header is None:
        return None
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict):
        return None
    return {key: value for key, value in metadata.items() if isinstance(value, str)}


def tensor_spans(content: bytes | mmap.mmap) -> dict[str, tuple[int, int]] | None:
    """Byte offsets (begin, end) of each tensor in a safetensors file; None if the header is damaged."""
    header = _read_header(content)
    if header is None:
        return None
    start_of_data = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    spans: dict[str, tuple[int, int]] = {}
    for name, item in header.items():
        offsets = item.get("data_offsets") if isinstance(item, dict) else None
        if isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(offset, int) for offset in offsets):
            spans[name] = (start_of_data + offsets[0], start_of_data + offsets[1])
    return spans


def _view(mapping: mmap.mmap, name: str, span: tuple[int, int], entry: TensorEntry, path: Path) -> Tensor:
    dtype: torch.dtype = getattr(torch, entry.dtype)
    begin, end = span
    wanted = math.prod(entry.shape) * dtype.itemsize
    if end - begin != wanted or end > len(mapping):
        raise WeightsCorruptError(f"{path}: altered: tensor {name!r} has {end - begin} bytes, expected {wanted}")
    if not wanted:
        return torch.empty(entry.shape, dtype=dtype)
    view = torch.frombuffer(mapping, dtype=torch.uint8, count=wanted, offset=begin)
    return (view.clone() if begin % ALIGNMENT else view).view(dtype).view(entry.shape)


def _aligned(content: bytes) -> bytes:
    """The same file with its tensors reordered and its header padded with spaces.

    Within both groups the order stays: safetensors sorts by dtype, so that every number is aligned to its own size.
    """
    header, spans = _read_header(content), tensor_spans(content)
    if header is None or spans is None:
        raise WeightStoreError("the tensors cannot be written as safetensors: it wrote no header")
    parts: list[bytes | memoryview] = []
    end = 0
    for name in sorted(spans, key=lambda name: ((spans[name][1] - spans[name][0]) % ALIGNMENT > 0, spans[name])):
        part = memoryview(content)[slice(*spans[name])]
        header[name]["data_offsets"] = [end, end + len(part)]
        end += len(part)
        parts.append(part)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(_LENGTH_BYTES + len(text)) % ALIGNMENT)
    return b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, *parts])


def _first_bad_span(content: bytes, expected: Mapping[str, TensorEntry]) -> str | None:
    """The first tensor, in the order of the file, whose bytes are incomplete or altered, as a message."""
    spans = tensor_spans(content) or {}
    for begin, end, name in sorted((begin, end, name) for name, (begin, end) in spans.items() if name in expected):
        data = content[begin:end]
        found = hashlib.sha256(data).hexdigest()
        if found != expected[name].sha256:
            size = f"{len(data)} of {end - begin} bytes are there; " if len(data) != end - begin else ""
            return f"tensor {name!r}: {size}expected checksum {expected[name].sha256}, found {found}"
    return None


def _read_header(content: bytes | mmap.mmap) -> dict[str, dict[str, object]] | None:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    try:
        header = parse_json(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    except ValueError:
        return None
    return header if isinstance(header, dict) else None
