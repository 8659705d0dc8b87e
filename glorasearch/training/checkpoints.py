"""Where the state of a training is kept, and how all its processes get the same state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import safetensors.torch
from torch import Tensor

from glorasearch.training.communicator import Communicator
from glorasearch.weights import CheckpointWriter, load_checkpoint
from glorasearch.weights.encoding import encode, read_metadata

_META: Final = "meta"


class Checkpoint(NamedTuple):
    """The state of a training after some step."""

    tensors: dict[str, Tensor]
    """Weights and optimizer moments, on the CPU."""
    meta: dict[str, Any]
    """JSON data: identity of the training, step, seconds, loss."""


class CheckpointStore(Protocol):
    """Keeps the newest checkpoint of one training."""

    def load(self) -> Checkpoint | None:
        """The newest checkpoint; None if there is none."""
        ...

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Store a checkpoint, possibly in the background: the store owns the tensors from now on."""
        ...

    def wait(self) -> None:
        """Block until the last checkpoint is stored; raises what went wrong with it."""
        ...

    def close(self) -> None:
        """Wait, and release what only writing needs."""
        ...

    def location(self) -> str | None:
        """Where the newest checkpoint is, for messages; None if there is none."""
        ...


class FileCheckpointStore:
    """Keeps the newest checkpoint in a local file, and the previous one beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: CheckpointWriter | None = None

    def load(self) -> Checkpoint | None:
        """See `CheckpointStore.load`.

        Raises:
            WeightStoreError: if there are checkpoints and none of them can be read.
        """
        found = load_checkpoint(self._path)
        return None if found is None else Checkpoint(*found)

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """See `CheckpointStore.save`; a failed write is raised by the next call of any method."""
        if self._writer is None:
            self._writer = CheckpointWriter(self._path)
        self._writer.save(tensors, meta)

    def wait(self) -> None:
        """See `CheckpointStore.wait`."""
        if self._writer is not None:
            self._writer.wait()

    def close(self) -> None:
        """See `CheckpointStore.close`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def location(self) -> str | None:
        """The file's path."""
        return str(self._path) if self._path.exists() else None


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def pack(checkpoint: Checkpoint | None) -> bytes:
    """A checkpoint as the bytes of a safetensors file; empty for None."""
    return b"" if checkpoint is None else encode(checkpoint.tensors, {_META: json.dumps(checkpoint.meta)})


def unpack(content: bytes) -> Checkpoint | None:
    """The inverse of `pack`."""
    if not content:
        return None
    return Checkpoint(safetensors.torch.load(content), json.loads((read_metadata(content) or {})[_META]))


def broadcast_checkpoint(communicator: Communicator, checkpoint: Checkpoint | None) -> Checkpoint | None:
    """The checkpoint of process 0, in every process."""
    if communicator.size == 1:
        return checkpoint
    content = communicator.broadcast(b"" if communicator.process else pack(checkpoint))
    return unpack(content) if communicator.process else checkpoint
