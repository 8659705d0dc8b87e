"""What is said of a run's winner, in its report and its model card alike."""

from __future__ import annotations

from glorasearch.runs.paths import space_label
from glorasearch.runs.results import PointSummary
from glorasearch.runs.session import Session
from glorasearch.runs.statements import statements


def said(session: Session) -> tuple[str, ...]:
    """The sentences."""
    method = "the winner" if session.only_subnet is None else space_label(session.space.name)
    point = point_of(session)
    found = () if point is None else point.statements()
    return found + statements(session.stored.results, method if point is None else f"trial {point.trial}")


def point_of(session: Session) -> PointSummary | None:
    """Where the winner comes from, if it is a point of another run."""
    number = session.config.point.trial
    return None if session.stored.searched is None or number is None else session.stored.searched.summary(number)
