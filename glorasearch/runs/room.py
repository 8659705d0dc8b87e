"""Whether the disks have room for what a run is going to write, asked before it does any work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from glorasearch.errors import InputError
from glorasearch.runs.entrants import methods
from glorasearch.runs.fixed_methods import BEST_FIXED
from glorasearch.runs.session import Session
from glorasearch.runs.workspace import DATABASE_NAME
from glorasearch.supernet import Supernet

_CHECKPOINT: Final = 9
"""Of the adapters' bytes: they and two moments of each, in the new checkpoint, the last one and the one before."""
_MEGABYTE: Final = 1_000_000
_TRIAL: Final = 2_500
"""Bytes of a trial in the database and its log, without its genes."""
_GENE: Final = 50
_RECORD: Final = 1_500
"""Bytes of the losses and rates of a step, in the database and as curves."""
_MEMBER: Final = 2_500
"""Bytes of a training of the race in the database."""
_ROW: Final = 200
"""Bytes of an image in the tables of a run."""
_PROBABILITY: Final = 12


def check_room(session: Session, supernet: Supernet, only: str | None) -> None:
    """Refuse a run whose unfinished stages write more than the disks have room for.

    Raises:
        InputError: naming the folder, what is needed and what is free.
    """
    refuse_too_little(needed_room(session, supernet, only))


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


def needed_room(session: Session, supernet: Supernet, only: str | None) -> dict[Path, tuple[int, str]]:
    """What the stages that are still to be run write, by folder; nothing for a store that is not on a disk."""
    results, config, source = session.stored.results, session.config, session.source
    stages = ("train", "refit", *(f"baseline:{name}" for name in config.report.baselines))
    if config.race.enabled and config.report.best_fixed and session.only_subnet is None:
        stages += (f"baseline:{BEST_FIXED}",)
    trained = [stage for stage in stages if stage not in results and only in (None, stage)]
    adapters = sum(tensor.nbytes for tensor in supernet.adapter_state().values())
    needed: dict[Path, tuple[int, str]] = {}
    checkpoints = _CHECKPOINT * adapters if trained else 0
    if config.race.enabled and "race" not in results and only in (None, "race"):
        checkpoints = max(checkpoints, _CHECKPOINT * adapters * (config.race.stack or 1))
    if config.race.enabled and config.refit.teachers and "refit" not in results and only in (None, "refit"):
        answers = 4 * len(source.class_names) * (config.refit.mixed + source.train + source.search)
        checkpoints = max(checkpoints, _CHECKPOINT * adapters * config.refit.teachers) + answers
    if checkpoints:
        needed[session.files.folder / "checkpoints"] = checkpoints, "checkpoints"
    if trained and session.store.local is not None:
        needed[session.store.local] = len(trained) * adapters, "weights"
    if "export" not in results and only in (None, "export"):
        model = sum(tensor.nbytes for tensor in session.backbone.state_dict().values())
        needed[session.files.export.parent] = model, "exported model"
    if only is None and "report" not in results:
        rows = source.train + source.search + source.test
        tables = _ROW * rows + _PROBABILITY * len(source.class_names) * source.test
        needed[session.files.report] = tables, "tables and report"
    workspace = session.stored.workspace
    if workspace.given_database is None:
        needed[workspace.path / DATABASE_NAME] = _database(session, only), "database"
    return {place: (size, what) for place, (size, what) in needed.items() if size}


def _database(session: Session, only: str | None) -> int:
    """Bytes of the rows that are still to be written: trials, metrics, trainings of the race."""
    results, config = session.stored.results, session.config
    taken = config.point.run is not None  # supernet and search are those of another run
    size = 0
    if "search" not in results and only in (None, "search") and not taken:
        genes = len(session.bound_space.genes)
        size += config.search.trials * (_TRIAL + _GENE * genes)
    if "train" not in results and only in (None, "train") and not taken:
        size += config.train.steps // config.train.record_every * _RECORD
    if config.race.enabled and "race" not in results and only in (None, "race"):
        found, _ = methods(session) if session.only_subnet is None else ([], {})
        count = len(config.race.rates) * (1 + len(found) + config.race.named + config.race.finalists)
        size += config.race.trainings(count) * _MEMBER
    return size


def _existing(folder: Path) -> Path:
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder
