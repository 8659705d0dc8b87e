"""The section `refit` of a run file."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from glorasearch.config import MOST_STEPS, Config
from glorasearch.training import TrainingConfig

TEACHER_STEPS: Final = 1_000
"""Of each teacher, unless the refit has fewer."""


class RefitConfig(Config):
    """Training the winner alone, on train + search."""

    section: ClassVar[str] = "refit"
    steps: int = Field(default=1_500, ge=0, le=MOST_STEPS)
    """Optimiser steps; 0, without a race, keeps the inherited weights."""
    start: Literal["inherited", "fresh"] = "inherited"
    """Weights to start from: those of the supernet, or new ones. After a race it starts as its winner did."""
    lr: float | None = Field(default=None, gt=0, examples=[4e-3])
    """Peak learning rate; the training's if not given. Those of the other groups are scaled by the same factor. After a
    race it is the winner's."""
    warmup_steps: int | None = Field(default=None, ge=0, le=MOST_STEPS, examples=[50])
    """Steps of linear warm-up; the training's if not given."""
    folds: int = Field(default=0, ge=0, le=1_000, examples=[5])
    """Without a race: before the refit, train it once without each of so many parts of the search split, and keep the
    inherited weights if they are right on more images of these parts; 0 does not judge it, and costs nothing."""
    teachers: int = Field(default=8, ge=0, le=1_000)
    """Models that teach the winner of a race what to answer on mixed images; 0 trains it on the labels."""
    orders: int = Field(default=4, ge=1, le=1_000)
    """Teachers of one candidate, which differ in their seeds; the best candidates of different methods teach."""
    teacher_steps: int | None = Field(default=None, ge=1, le=MOST_STEPS, examples=[1_000])
    """Optimiser steps of each teacher; 1,000, or as many as the refit has if that is less, if not given."""
    teacher_lr: float = Field(default=3e-3, gt=0)
    """Largest peak learning rate of a teacher; else it has its candidate's."""
    teacher_drop_path: float = Field(default=0.1, ge=0, lt=1)
    """Stochastic depth of the teachers."""
    mixed: int = Field(default=10_000, ge=0, le=10_000_000)
    """Mixed pairs of images that the winner learns from, besides the images themselves."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.folds == 1 or (self.folds and not self.steps):
            raise ValueError(
                f"folds is {self.folds} and steps is {self.steps}; a refit that is judged has at least 2 folds, and "
                "steps; with 0 folds it is not judged"
            )
        if self.teachers % self.orders:
            raise ValueError(
                f"teachers is {self.teachers}, which is no multiple of orders, {self.orders}: each candidate that "
                "teaches has that many"
            )
        return self

    @property
    def steps_of_teachers(self) -> int:
        """Optimiser steps of each teacher."""
        return self.teacher_steps or min(TEACHER_STEPS, self.steps or TEACHER_STEPS)

    def training(self, train: TrainingConfig, *, steps: int | None = None, lr: float | None = None) -> TrainingConfig:
        """The recipe of the refit, given that of the supernet; with other steps or another rate if they are given."""
        return train.for_one_subnet(
            steps=self.steps if steps is None else steps,
            lr=self.lr if lr is None else lr,
            warmup_steps=self.warmup_steps,
        )
