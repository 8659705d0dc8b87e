"""The training checkpoint: a local file of tensors and JSON metadata, replaced in one step, its predecessor kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glorasearch.errors import WeightsCorruptError, WeightStoreError
from glorasearch.weights.atomic import ROOM, remove_leftovers, replace_file
from glorasearch.weights.digest import TensorEntry, canonical_json, entries_digest, storable, tensor_entries
from glorasearch.weights.encoding import decode, encode, read_metadata

_log = logging.getLogger(__name__)
_KEY = "glorasearch_checkpoint"


def previous_checkpoint(path: Path) -> Path:
    """Where the checkpoint before the newest one is kept."""
    return path.with_name(f"{path.name}.previous")


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint and flush it to the disk; the one that was there is kept as `<name>.previous`.

    A kill at any moment leaves this checkpoint or its predecessor loadable. Only one process may write a checkpoint.

    Args:
        path: file to write; its directory is created if missing.
        tensors: of any dtype that safetensors has (float, integer, uint8 generator states, bool), on any device.
        meta: JSON data (step, position in the data, schedule, ...).

    Raises:
        ValueError: if `meta` is not JSON data.
        WeightStoreError: if the file cannot be written.
    """
    ready = storable(tensors)
    entries = tensor_entries(ready)
    try:
        plain: dict[str, Any] = json.loads(canonical_json(dict(meta)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: a checkpoint's meta must be JSON data: {error}") from error
    record = {
        "meta": plain,
        "tensors": {name: entry.to_dict() for name, entry in entries.items()},
        "digest": entries_digest(entries, plain),
    }
    content = encode(ready, {_KEY: canonical_json(record)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        replace_file(path, content, previous_checkpoint(path))
    except OSError as error:
        raise WeightStoreError(f"checkpoint {path} cannot be written: {error}; {ROOM}") from error


class CheckpointWriter:
    """Writes the checkpoints of one file in a background thread while the training continues.

    Each `save` waits until the previous checkpoint is on the disk. An error of a write is raised by the next `save`, or
    by `close`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="glorasearch-checkpoint")
        self._under_way: Future[None] | None = None

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """`save_checkpoint` in the background; the tensors must not be changed afterwards (see `snapshot`)."""
        self.wait()
        self._under_way = self._thread.submit(save_checkpoint, self._path, tensors, dict(meta))

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk."""
        pending, self._under_way = self._under_way, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def snapshot(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU; tensors that share memory share it in the copy, too."""
    memory: dict[tuple[torch.device, int], torch.UntypedStorage] = {}
    copies: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        own = tensor.detach().untyped_storage()
        key = tensor.device, own.data_ptr()
        if key not in memory:
            memory[key] = own.clone() if tensor.device.type == "cpu" else own.cpu()  # type: ignore[no-untyped-call]
        place = torch.empty(0, dtype=tensor.dtype)
        copies[name] = place.set_(memory[key], tensor.storage_offset(), tensor.shape, tensor.stride())
    return copies


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest sound checkpoint: its tensors (on the CPU) and its metadata; None if there is none.

    If the newest is damaged, or was being replaced when its writer was killed, its predecessor is returned, with a
    warning in the log.

    Raises:
        WeightsCorruptError: if there are checkpoints, but all are damaged.
        WeightStoreError: if a checkpoint cannot be read.
    """
    failures: list[str] = []
    for candidate in (path, previous_checkpoint(path)):
        try:
            content = candidate.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise WeightStoreError(f"checkpoint {candidate} cannot be read: {error}") from error
        try:
            loaded = _decode(content, str(candidate))
        except WeightsCorruptError as error:
            failures.append(str(error))
            continue
        if candidate != path:
            reason = failures[0] if failures else f"{path} is missing: its writer was stopped while replacing it"
            _log.warning("using the previous checkpoint %s: %s", candidate, reason)
        return loaded
    if failures:
        raise WeightsCorruptError("; ".join(failures) + "; delete these files to start from the beginning")
    return None


def _decode(content: bytes, source: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    metadata = read_metadata(content)
    if metadata is None or _KEY not in metadata:
        raise WeightsCorruptError(f"{source}: truncated or altered: its header is not that of a checkpoint")
    try:
        record = json.loads(metadata[_KEY])
        meta: dict[str, Any] = record["meta"]
        entries = {
            name: TensorEntry(item["dtype"], tuple(item["shape"]), item["sha256"])
            for name, item in record["tensors"].items()
        }
        expected = record["digest"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsCorruptError(f"{source}: altered: its header cannot be read ({error!r})") from error
    found = entries_digest(entries, meta)
    if found != expected:
        raise WeightsCorruptError(f"{source}: altered: its metadata has checksum {found}, expected {expected}")
    return decode(content, entries, source), meta
