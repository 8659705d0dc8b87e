"""Digests of tensors: over names, shapes, dtypes and bytes; not over memory layout, device or file format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from glorasearch.errors import WeightStoreError


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What a manifest records about one tensor."""

    dtype: str
    """As in torch, without `torch.`: `float32`, `bfloat16`, `int64`, ..."""
    shape: tuple[int, ...]
    sha256: str
    """Of the tensor's bytes in row-major order, hexadecimal."""

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON data."""
        return {"dtype": self.dtype, "shape": list(self.shape), "sha256": self.sha256}


def tensor_entry(name: str, tensor: Tensor) -> TensorEntry:
    """Dtype, shape and checksum of one tensor of any device and memory layout.

    Raises:
        WeightStoreError: if the tensor has no bytes of its own (meta, sparse, quantised).
    """
    return TensorEntry(
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=tuple(tensor.shape),
        sha256=hashlib.sha256(tensor_bytes(name, tensor)).hexdigest(),
    )


def tensor_entries(tensors: Mapping[str, Tensor]) -> dict[str, TensorEntry]:
    """Name → entry, sorted by name."""
    return {name: tensor_entry(name, tensors[name]) for name in sorted(tensors)}


def tensor_bytes(name: str, tensor: Tensor) -> memoryview:
    """The bytes of a tensor in row-major order; a view if it is contiguous and on the CPU."""
    if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
        kind = (
            "on the meta device" if tensor.is_meta else f"of layout {tensor.layout}, quantised: {tensor.is_quantized}"
        )
        raise WeightStoreError(f"tensor {name!r} is {kind}; only dense tensors with data can be stored")
    dense = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return dense.reshape(-1).view(torch.uint8).numpy().data


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of tensors, hexadecimal; their order does not matter."""
    return entries_digest(tensor_entries(tensors))


class Frozen(Protocol):
    """A model with frozen weights: a supernet."""

    def frozen_state(self) -> dict[str, Tensor]:
        """The frozen weights by name."""


def frozen_digest(model: Frozen) -> str:
    """`tensor_digest` of `model.frozen_state()`, cached while the model lives and none of it is changed in place."""
    state = model.frozen_state()
    now = {name: (tensor.data_ptr(), tensor._version) for name, tensor in state.items()}
    known = _FROZEN.get(model)
    if known is None or known[0] != now:
        known = _FROZEN[model] = now, tensor_digest(state)
    return known[1]


_FROZEN: WeakKeyDictionary[Frozen, tuple[dict[str, tuple[int, int]], str]] = WeakKeyDictionary()


def entries_digest(entries: Mapping[str, TensorEntry], fields: Mapping[str, Any] | None = None) -> str:
    """SHA-256 over the entries and over JSON fields that belong to the identity, if given."""
    content = {"tensors": {name: entry.to_dict() for name, entry in entries.items()}, "fields": dict(fields or {})}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; NaN and infinity raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, contiguous, none sharing memory with another; copied only where needed."""
    result: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name in sorted(tensors):
        tensor_bytes(name, tensors[name])
        tensor = tensors[name].detach().cpu().resolve_conj().resolve_neg().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        result[name] = tensor
    return result


def first_difference(expected: Mapping[str, TensorEntry], found: Mapping[str, TensorEntry]) -> str | None:
    """The first tensor that is missing, altered or unexpected, as a message; None if all are equal."""
    names: Iterable[str] = sorted(expected.keys() | found.keys())
    for name in names:
        if name not in found:
            return f"tensor {name!r} is missing"
        if name not in expected:
            return f"tensor {name!r} is not in the manifest"
        want, have = expected[name], found[name]
        if (want.dtype, want.shape) != (have.dtype, have.shape):
            return f"tensor {name!r}: expected {want.dtype} {want.shape}, found {have.dtype} {have.shape}"
        if want.sha256 != have.sha256:
            return f"tensor {name!r}: expected checksum {want.sha256}, found {have.sha256}"
    return None
