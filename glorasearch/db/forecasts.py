"""How long the stages of a run take, at most, as it was measured when the run began; read by whoever watches."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import URL, delete, select

from glorasearch.db.database import Database, as_database
from glorasearch.db.models import ForecastRow, table_of
from glorasearch.db.retry import retried
from glorasearch.db.runs import run_id_of

_forecasts = table_of(ForecastRow)


class ForecastStore:
    """The forecasts of a database's runs. Every method is one transaction.

    Raises (all methods):
        RunNotFoundError: if there is no run of that name.
    """

    def __init__(self, database: str | URL | Database) -> None:
        self._database = as_database(database)

    @retried
    def record(self, run: str, seconds: Mapping[str, float]) -> None:
        """Record stage → seconds of the work that is ahead of a run; it replaces an earlier forecast."""
        with self._database.write() as connection:
            run_id = run_id_of(connection, run)
            connection.execute(delete(_forecasts).where(_forecasts.c.run_id == run_id))
            rows = [{"run_id": run_id, "stage": stage, "seconds": value} for stage, value in seconds.items()]
            if rows:
                connection.execute(_forecasts.insert(), rows)

    @retried
    def of(self, run: str) -> dict[str, float]:
        """Stage → seconds, at most; all baselines are one stage. Empty if nothing was forecast."""
        wanted = select(_forecasts.c.stage, _forecasts.c.seconds)
        with self._database.read() as connection:
            rows = connection.execute(wanted.where(_forecasts.c.run_id == run_id_of(connection, run))).all()
        return {row.stage: row.seconds for row in rows}
