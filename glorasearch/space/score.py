"""What is measured of a candidate on images, and what makes one candidate better than another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Fitness = Literal["accuracy", "cross_entropy"]
"""What a search optimises: the share of correct images, or the mean cross-entropy in nats."""
FITNESSES: Final[tuple[Fitness, ...]] = ("accuracy", "cross_entropy")


@dataclass(frozen=True, slots=True)
class Score:
    """What an evaluation found on the images of the search split; of those that it saw, if it stopped early.

    Result, trial record and the trial's row carry it whole: a field that is added here is stored and read back.
    """

    correct: int
    """Images classified correctly, among those seen."""
    total: int
    """Images of the split."""
    cross_entropy: float
    """Mean over the images seen, nats."""
    seconds: float = 0.0
    """Wall-clock seconds of the evaluation; 0 if the score was reused."""
    bound: float | None = None
    """If the evaluation stopped early: the best fitness that the candidate could still have reached."""
    stopped_after: int | None = None
    """If the evaluation stopped early: the images seen."""

    @property
    def stopped_early(self) -> bool:
        """Whether the evaluation stopped before the last image, the candidate being certain not to matter."""
        return self.bound is not None

    @property
    def seen(self) -> int:
        """Images that the score is of: all of them, unless the evaluation stopped early."""
        return self.total if self.stopped_after is None else self.stopped_after

    @property
    def accuracy(self) -> float:
        """Share of correct images among those seen, between 0 and 1."""
        return self.correct / self.seen if self.seen else float("nan")
