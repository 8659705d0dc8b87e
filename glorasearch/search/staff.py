"""What an executor knows of its workers."""

from __future__ import annotations

from dataclasses import dataclass

from glorasearch.space import EvaluationResult


@dataclass(slots=True)
class WorkerStatus:
    """A worker, and what it has done so far."""

    number: int
    host: str = ""
    """Where it is, or was when it was lost; empty if it never had a place."""
    process: int = 0
    ready: bool = False
    """Whether it takes tasks."""
    tasks: int = 0
    """Evaluations that it has answered."""
    busy: float = 0.0
    """Seconds that they took."""

    def answered(self, result: EvaluationResult) -> None:
        """Count an evaluation."""
        self.tasks += 1
        self.busy += 0.0 if result.score is None else result.score.seconds
