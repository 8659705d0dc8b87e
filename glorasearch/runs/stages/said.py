"""What is said of a run's winner, in its report and its model card alike."""

from __future__ import annotations

from glorasearch.runs.fixed_methods import BEST_FIXED
from glorasearch.runs.paths import space_label
from glorasearch.runs.session import Session
from glorasearch.runs.statements import statements


def best_fixed(session: Session) -> str | None:
    """The baseline that is the one to beat: the best fixed method of the race; None without a race.

    Never the one with the best test accuracy: that would be chosen by the images on which it is then compared.
    """
    return BEST_FIXED if BEST_FIXED in session.baselines else None


def said(session: Session) -> tuple[str, ...]:
    """The sentences."""
    method = "the winner" if session.only_subnet is None else space_label(session.space.name)
    return statements(session.stored.results, method, best_fixed(session))
