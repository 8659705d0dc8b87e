"""What is said of a run's winner, in its report and its model card alike."""

from __future__ import annotations

from glorasearch.runs.paths import space_label
from glorasearch.runs.session import Session
from glorasearch.runs.statements import statements


def said(session: Session) -> tuple[str, ...]:
    """The sentences."""
    method = "the winner" if session.only_subnet is None else space_label(session.space.name)
    return statements(session.stored.results, method)
