"""The learning rate that pilots found, and what they cost."""

from __future__ import annotations

from glorasearch.runs.stage_result import FrozenModel, StageResult


class PilotSummary(FrozenModel):
    """A short training of the supernet at one rate."""

    rate: float
    """Its peak learning rate (`train.lr`)."""
    steps: int
    """Steps that it made."""
    seconds: float
    """Wall-clock seconds, judging included."""
    checks: tuple[int, ...]
    """After how many steps it was judged."""
    scores: tuple[float, ...]
    """Mean score of the judged subnets at each of the checks, nats; less is better."""
    stopped: bool
    """Whether it was clearly behind the best one before its end, and stopped."""
    diverged: bool
    """Whether something stopped being finite."""

    @property
    def score(self) -> float | None:
        """The score at its end; None if it did not get there."""
        return None if self.stopped or self.diverged else self.scores[-1]


class Pilot(PilotSummary, StageResult, stage="rate"):
    """A pilot, stored as soon as it has ended."""

    key: str
    """Digest of all that the pilots depend on."""


class PilotsSummary(FrozenModel):
    """The rate that the pilots found, and what they cost."""

    lr: float
    """The rate with the best score at the end of its pilot: that of all further trainings."""
    pilots: tuple[PilotSummary, ...]
    """By rate."""
    subnets: int
    """Subnets that each check judged."""
    steps: int
    """Steps of all pilots."""
    seconds: float
    """Wall-clock seconds of all pilots."""


class PilotResult(PilotsSummary, StageResult, stage="pilot"):
    """The learning rate of a run that leaves it open (`train.lr = "auto"`)."""

    key: str
    """Digest of all that the pilots depend on."""
    split: str
    """Digest of the images, train + search."""
    from_run: str | None = None
    """Name of the run whose pilots these were."""
