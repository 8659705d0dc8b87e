"""Whether a transaction was committed whose COMMIT was sent, but never answered.

A connection may break at that very moment; repeating the transaction would do it twice, giving it up would lose it. So
the last statement of a transaction leaves a receipt: the number of the transaction, in a row that belongs to the
connection. The lookup updates the same row, so it blocks until the transaction is over.

PostgreSQL's own `pg_xact_status` cannot answer this: a server that crashes reuses the ids of unfinished transactions,
so a lost transaction may be reported as committed (`test_lost_server`).
"""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, func, text
from sqlalchemy.dialects.postgresql import insert

from glorasearch.db.models import ReceiptRow, table_of

_rows = table_of(ReceiptRow)
_KEY: Final = "glorasearch_receipts"
_OLD: Final = text("now() - interval '7 days'")


@dataclass(frozen=True, slots=True)
class Receipt:
    """Of one transaction of one connection."""

    connection: str
    number: int


class _Numbering:
    """The name of one connection to the server, and the number of its next transaction."""

    def __init__(self) -> None:
        self.name = uuid.uuid4().hex
        self.numbers = itertools.count(1)


def leave_receipt(connection: Connection) -> Receipt | None:
    """Leave a receipt in a transaction that is about to commit; None for SQLite, which always answers."""
    if connection.dialect.name != "postgresql":
        return None
    numbering: _Numbering = connection.info.setdefault(_KEY, _Numbering())
    receipt = Receipt(numbering.name, next(numbering.numbers))
    row = insert(_rows).values(connection=receipt.connection, number=receipt.number, written=func.now())
    new = {"number": row.excluded.number, "written": row.excluded.written}
    connection.execute(row.on_conflict_do_update(index_elements=[_rows.c.connection], set_=new))
    return receipt


def was_committed(connection: Connection, receipt: Receipt) -> bool:
    """Whether the transaction of a receipt was committed; waits until it is over."""
    row = insert(_rows).values(connection=receipt.connection, number=0, written=func.now())
    same = {"number": _rows.c.number}
    found = row.on_conflict_do_update(index_elements=[_rows.c.connection], set_=same).returning(_rows.c.number)
    return bool(connection.execute(found).scalar_one() == receipt.number)


def drop_old_receipts(connection: Connection) -> None:
    """Forget connections that have been gone for a week."""
    if connection.dialect.name == "postgresql":
        connection.execute(delete(_rows).where(_rows.c.written < _OLD))
