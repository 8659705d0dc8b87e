"""Where the state of a training is kept, and how the processes of one training come to have the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import safetensors.torch
import torch
from torch import Tensor

from glorasearch.training.world import World
from glorasearch.weights import CheckpointWriter, load_checkpoint
from glorasearch.weights.encoding import encode, read_metadata

State: TypeAlias = tuple[dict[str, Tensor], dict[str, Any]]
"""The tensors of a checkpoint and its metadata, which is JSON."""


_META: Final = "meta"


class Keeper(Protocol):
    """Keeps the newest checkpoint of one training."""

    def load(self) -> State | None:
        """The newest checkpoint; None if there is none."""
        ...

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Keep a checkpoint; it may be written while the training goes on, and the tensors are the keeper's then."""
        ...

    def wait(self) -> None:
        """Until the last checkpoint is kept; raises what went wrong with it."""
        ...

    def close(self) -> None:
        """Wait, and let go of what is needed for writing only."""
        ...

    def kept(self) -> str | None:
        """Where the newest checkpoint is, in words; None if there is none."""
        ...


class FileKeeper:
    """Keeps it in a local file, and the one before beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: CheckpointWriter | None = None

    def load(self) -> State | None:
        """See `Keeper.load`.

        Raises:
            WeightStoreError: if there are checkpoints and none of them can be read.
        """
        return load_checkpoint(self._path)

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """See `Keeper.save`; what goes wrong with the write is raised by the next call of any method."""
        if self._writer is None:
            self._writer = CheckpointWriter(self._path)
        self._writer.save(tensors, meta)

    def wait(self) -> None:
        """See `Keeper.wait`."""
        if self._writer is not None:
            self._writer.wait()

    def close(self) -> None:
        """See `Keeper.close`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def kept(self) -> str | None:
        """The file's path."""
        return str(self._path) if self._path.exists() else None


def pack(state: State | None) -> bytes:
    """A state as the bytes of a safetensors file; none at all for None."""
    return b"" if state is None else encode(state[0], {_META: json.dumps(state[1])})


def unpack(content: bytes) -> State | None:
    """What `pack` was given."""
    if not content:
        return None
    return safetensors.torch.load(content), json.loads((read_metadata(content) or {})[_META])


def shared_state(world: World, state: State | None) -> State | None:
    """The state that process 0 has, in every process."""
    if world.size == 1:
        return state
    content = world.broadcast(b"" if world.process else pack(state))
    return unpack(content) if world.process else state


def all_equal(world: World, content: bytes, device: torch.device) -> bool:
    """Whether every process gives what process 0 gives; the answer is the same in all of them."""
    if world.size == 1:
        return True
    differs = float(world.broadcast(content) != content)
    return float(world.sum(torch.tensor([[differs]], device=device))) == 0
