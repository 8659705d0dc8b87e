"""Removing and renaming runs: each is one transaction over a run and its study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select, update

from glorasearch.db.database import Database
from glorasearch.db.models import RaceMemberRow, RunRow, StageRow, StudyRow, table_of
from glorasearch.db.retry import retried
from glorasearch.errors import InputError

_runs, _stages, _studies, _members = map(table_of, (RunRow, StageRow, StudyRow, RaceMemberRow))


class RunTidier:
    """Removes and renames runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried
    def delete(self, name: str) -> None:
        """Remove a run with its stages, metrics, race and study; nothing happens if there is none."""
        with self._database.write() as connection:
            connection.execute(delete(_runs).where(_runs.c.name == name))
            connection.execute(delete(_studies).where(_studies.c.name == name))

    @retried
    def rename(self, old: str, new: str, config: Mapping[str, Any], stages: Mapping[str, Mapping[str, Any]]) -> None:
        """Give a run and its study another name.

        Args:
            old: its name.
            new: its name afterwards.
            config: its configuration afterwards.
            stages: results that change with the name, by stage.

        Raises:
            InputError: if there is a run or a study of the new name.
        """
        with self._database.write() as connection:
            run_id = connection.scalar(select(_runs.c.id).where(_runs.c.name == old))
            for table in (_runs, _studies):
                if connection.scalar(select(table.c.id).where(table.c.name == new)) is not None:
                    raise InputError(f"there is a run {new!r} already; choose another name")
            connection.execute(update(_runs).where(_runs.c.id == run_id).values(name=new, config=config))
            connection.execute(update(_studies).where(_studies.c.name == old).values(name=new))
            connection.execute(update(_members).where(_members.c.from_run == old).values(from_run=new))
            for stage, result in stages.items():
                key = (_stages.c.run_id == run_id, _stages.c.stage == stage)
                connection.execute(update(_stages).where(*key).values(result=result))
