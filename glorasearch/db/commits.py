"""Whether a transaction was committed whose COMMIT was sent, but never answered.

A connection may break at that very moment; repeating the transaction would do it twice, giving it up would lose it. So
a transaction that has written notes its id before it commits, and PostgreSQL (13 or newer) is asked for the id's status
once the server is back. SQLite always answers.
"""

from __future__ import annotations

from typing import Final

import tenacity
from sqlalchemy import Connection, text

_LONGEST_WAIT_SECONDS: Final = 2.0
_ID: Final = text("SELECT CAST(pg_current_xact_id_if_assigned() AS text)")
_STATUS: Final = text("SELECT pg_xact_status(CAST(CAST(:id AS text) AS xid8))")


def transaction_id(connection: Connection) -> str | None:
    """The id of the transaction under way; None if it has written nothing, or its commit cannot stay unanswered."""
    if connection.dialect.name != "postgresql":
        return None
    found: str | None = connection.execute(_ID).scalar_one()
    return found


def was_committed(connection: Connection, transaction: str) -> bool:
    """Whether a transaction was committed; waits until it is over.

    A session that has lost its client ends as soon as the server notices, at the latest after its
    `idle_in_transaction_session_timeout`; a server that has crashed has none left.
    """
    poll = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda status: status == "in progress"),
        wait=tenacity.wait_exponential(multiplier=0.01, max=_LONGEST_WAIT_SECONDS),
    )
    status: str | None = poll(lambda: connection.execute(_STATUS, {"id": transaction}).scalar_one())
    return status == "committed"
