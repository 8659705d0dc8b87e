"""Whether the disks have room for what a run is going to write, asked before it does any work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from glorasearch.errors import InputError
from glorasearch.runs.session import Session
from glorasearch.supernet import Supernet

_CHECKPOINT: Final = 9
"""Of the adapters' bytes: they and two moments of each, in the new checkpoint, the last one and the one before."""
_MEGABYTE: Final = 1_000_000


def check_room(session: Session, supernet: Supernet, only: str | None) -> None:
    """Refuse a run whose unfinished stages write more than the disks have room for.

    Raises:
        InputError: naming the folder, what is needed and what is free.
    """
    refuse_too_little(_needed(session, supernet, only))


def refuse_too_little(needed: Mapping[Path, tuple[int, str]]) -> None:
    """Refuse folders on whose disk there is less room than is needed.

    Args:
        needed: folder, which need not be there yet → bytes, and what they are for.

    Raises:
        InputError: as `check_room`.
    """
    disks: dict[int, list[tuple[Path, int, str]]] = {}
    for folder, (size, what) in needed.items():
        there = _existing(folder)
        disks.setdefault(there.stat().st_dev, []).append((there, size, what))
    for parts in disks.values():
        wanted, free = sum(size for _, size, _ in parts), shutil.disk_usage(parts[0][0]).free
        if wanted > free:
            places = ", ".join(f"{what} in {folder}" for folder, _, what in parts)
            raise InputError(
                f"the disk has {free / _MEGABYTE:,.0f} MB free, and this run needs about {wanted / _MEGABYTE:,.0f} MB "
                f"({places}): make room there, or give other places (--workspace, --store, export.path)"
            )


def _needed(session: Session, supernet: Supernet, only: str | None) -> dict[Path, tuple[int, str]]:
    """What the stages that are still to be run write, by folder; nothing for a store that is not on a disk."""
    results = session.stored.results
    stages = ("train", "refit", *(f"baseline:{name}" for name in session.config.report.baselines))
    trained = [stage for stage in stages if stage not in results and only in (None, stage)]
    adapters = sum(tensor.nbytes for tensor in supernet.adapter_state().values())
    needed: dict[Path, tuple[int, str]] = {}
    if trained:
        needed[session.files.folder] = _CHECKPOINT * adapters, "checkpoints"
        if session.store.local is not None:
            needed[session.store.local] = len(trained) * adapters, "weights"
    if "export" not in results and only in (None, "export"):
        model = sum(tensor.nbytes for tensor in session.backbone.state_dict().values())
        needed[session.files.export.parent] = model, "exported model"
    return needed


def _existing(folder: Path) -> Path:
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder
