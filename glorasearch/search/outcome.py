"""What a search reports while it goes on and when it ends."""

from __future__ import annotations

from dataclasses import dataclass

from glorasearch.search.record import TrialRecord
from glorasearch.space import Subnet


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """The state of a search after a trial has finished; trials of earlier processes count."""

    trials: int
    """Trials to be made in all."""
    evaluated: int
    reused: int
    """Trials whose subnet was met before."""
    stopped_early: int
    """Evaluated trials that were stopped, being certain to be no parents and not the winner."""
    failed: int
    best: TrialRecord | None
    """The best trial so far."""
    best_fitness: float | None
    """Its accuracy or mean cross-entropy, whichever is sought."""

    @property
    def done(self) -> int:
        """Finished trials."""
        return self.evaluated + self.reused + self.failed


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """What a search found; trials of earlier processes count."""

    study: str
    best: TrialRecord
    """The winner's number and scores."""
    subnet: Subnet
    """The winner."""
    trials: int
    """Finished trials: evaluated, reused and failed."""
    evaluated: int
    reused: int
    """Trials whose subnet was met before."""
    stopped_early: int
    """Evaluated trials that were stopped, being certain to be no parents and not the winner."""
    failed: int
    images_share: float
    """Images that were scored, as a share of those that the evaluated trials would have needed to the end."""
    seconds: float
    """Wall-clock seconds of this process's share of the search."""
    evaluation_seconds: float
    """Sum of the wall-clock seconds of all evaluations, those of earlier processes included."""
    pareto: tuple[TrialRecord, ...]
    """The trials that none beats in both accuracy and trainable parameters, the smallest first; capped trials, whose
    accuracy is not known, do not take part."""
