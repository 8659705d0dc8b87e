"""The schema's revision: brought up to date on start, refused when it is newer than this code."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select, text

from glorasearch.db.models import PREFIX, Base
from glorasearch.errors import DatabaseError, SchemaTooNewError

HEAD: Final = "0013"
"""The newest revision in `migrations/versions`. Written here so that an up-to-date start need not import Alembic."""

VERSION_TABLE: Final = "glorasearch_schema"
MIGRATIONS: Final = Path(__file__).with_name("migrations")

_log = logging.getLogger(__name__)

_LOCK_KEY: Final = 0x676C6F7261
"""Of PostgreSQL's advisory lock ("glora" in ASCII)."""

_version = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32)))


def is_up_to_date(connection: Connection, name: str) -> bool:
    """Whether the database called `name` is at `HEAD`.

    Raises:
        SchemaTooNewError: if its revision is newer.
    """
    return _revision(connection, name) == HEAD


def bring_up_to_date(connection: Connection, name: str) -> None:
    """Bring the database called `name` to `HEAD`, unless another process has done so, in the connection's transaction.

    Raises:
        SchemaTooNewError: if its revision is newer.
        DatabaseError: if it holds tables of glorasearch's names that no glorasearch has made.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    found = _revision(connection, name)
    if found is None:
        _create(connection, name)
    elif found != HEAD:
        upgrade(connection)
    if found != HEAD:
        _name_foreign_tables(connection, name)


def check_schema(connection: Connection, name: str) -> None:
    """Raise unless the database named `name` is at `HEAD`: for readers, who must not migrate it."""
    found = _revision(connection, name)
    if found != HEAD:
        state = "is not a glorasearch database" if found is None else f"has the older schema {found}"
        raise DatabaseError(f"database {name} {state} (expected {HEAD}); open it once with `glorasearch runs`")


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision` in the transaction of `connection`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _revision(connection: Connection, name: str) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(select(_version.c.version_num)).scalar_one_or_none()
    if found is not None and found > HEAD:
        raise SchemaTooNewError(
            f"database {name} has schema {found}, written by a newer glorasearch; this one knows up to {HEAD}: "
            "upgrade glorasearch, or use another database"
        )
    return found


def _create(connection: Connection, name: str) -> None:
    """The tables in a database that has none of them; the migrations are for databases of earlier versions."""
    taken = sorted(set(inspect(connection).get_table_names()) & set(Base.metadata.tables))
    if taken:
        raise DatabaseError(
            f"database {name} holds tables of another program ({', '.join(taken)}); "
            "give glorasearch a database of its own"
        )
    Base.metadata.create_all(connection, checkfirst=False)
    _version.create(connection, checkfirst=False)
    connection.execute(_version.insert(), {"version_num": HEAD})


def _name_foreign_tables(connection: Connection, name: str) -> None:
    foreign = foreign_tables(connection)
    if foreign:
        few = ", ".join(foreign[:6]) + (f" and {len(foreign) - 6} more" if len(foreign) > 6 else "")
        _log.warning(
            "database %s holds tables of another program, too (%s): they are left as they are; glorasearch's own begin "
            "with %s",
            name,
            few,
            PREFIX,
        )


def foreign_tables(connection: Connection) -> list[str]:
    """Tables in the database that are not glorasearch's, such as those of Optuna's own storage."""
    return sorted(set(inspect(connection).get_table_names()) - set(Base.metadata.tables) - {VERSION_TABLE})
