"""Tensors that are views of a file: processes of one machine that map the same file share its memory."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from glorasearch.errors import WeightsCorruptError
from glorasearch.weights.digest import TensorEntry
from glorasearch.weights.encoding import ALIGNMENT, tensor_spans


def map_file(file: BinaryIO, expected: Mapping[str, TensorEntry], path: Path) -> dict[str, Tensor]:
    """The tensors of an open safetensors file whose content was verified before; the file may be closed afterwards.

    The mapping is private: a process that writes into a tensor gets its own copy of those pages, and the file stays as
    it is. The pages live as long as a tensor does, and so does a lock that was taken on the file, for the mapping keeps
    a duplicate of its descriptor. A tensor whose bytes do not begin at a multiple of 64, where arithmetic could take
    another way than with memory of its own, is copied; `encode` puts those that are small or odd last.

    Raises:
        WeightsCorruptError: if the header is damaged or speaks of other tensors.
    """
    mapping = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    spans = tensor_spans(mapping)
    if spans is None or spans.keys() != expected.keys():
        raise WeightsCorruptError(f"{path}: altered: its header does not speak of the tensors of its manifest")
    return {name: _view(mapping, name, spans[name], expected[name], path) for name in sorted(expected)}


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
