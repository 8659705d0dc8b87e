"""The sections `export` and `report` of a run file."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from glorasearch.config import MOST_STEPS, Config, ListOf, Role
from glorasearch.statistics import METRICS, Metric
from glorasearch.training import TrainingConfig


class ExportConfig(Config):
    """The merged model."""

    section: ClassVar[str] = "export"
    path: Annotated[str | None, Role.BOOKKEEPING] = Field(default=None, examples=["exported"])
    """Where to write the model; `<workspace>/runs/<name>/export` if not given."""
    tolerance: float = Field(default=1e-3, gt=0)
    """Largest difference of merged and active outputs, relative to the largest output."""


class ReportConfig(Config):
    """What the report compares the winner with; measured on the test split, once."""

    section: ClassVar[str] = "report"
    baselines: ListOf[str] = Field(default=(), examples=[["linear_probe", "lora"]])
    """Search spaces with one subnet, such as `linear_probe` and `lora`, trained on train + search."""
    steps: int | None = Field(default=None, ge=0, le=MOST_STEPS, examples=[6_000])
    """Optimiser steps of the baselines; the supernet's if not given."""
    random_subnets: int = Field(default=0, ge=0, le=100_000)
    """Random subnets with inherited weights to compare with."""
    chance_subnets: int = Field(default=32, ge=0, le=100_000)
    """Random subnets scored on the search split, to say what the best of as many as were tried has by chance; with
    fewer than 8 nothing is said."""
    best_fixed: bool = True
    """Whether the best fixed method of the race, at its best rate, is a baseline, too."""
    metrics: ListOf[Metric] = METRICS
    """What is measured of the winner and the baselines, besides the accuracy."""
    flips: bool = False
    """Also measure the accuracy by the mean of each test image's and its mirror image's probabilities."""
    resamples: int = Field(default=1_000, ge=0, le=100_000)
    """Resamples of the test images for the winner's intervals; with 0 only `top1` and `top5` have any, Wilson's."""

    def training(self, train: TrainingConfig, lr: float | None = None) -> TrainingConfig:
        """The recipe of the baselines, given that of the supernet; at another rate if one is given."""
        return train.for_one_subnet(steps=train.steps if self.steps is None else self.steps, lr=lr)
