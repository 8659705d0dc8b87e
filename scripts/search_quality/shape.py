"""What a step of `BatchedTraining` is made for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """What a step is made for; everything else is data."""

    models: int
    """Rows of parameters."""
    paths: int = 1
    """Subnets a step of each row; more than one, or drawn anew each step, make it a supernet."""
    batch: int = 64
    steps: int = 2000
    """The most steps of a run."""
    drawn: bool = False
    """Whether subnets are drawn anew each step (`codes` per step)."""
    distilled: bool = False
    """Whether the paths after the first learn from the first one's output (in-place distillation)."""

    @property
    def rows(self) -> int:
        """Rows of the stack that runs through the backbone."""
        return self.models * self.paths
