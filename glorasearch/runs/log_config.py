"""The section `log` of a run file: where the curves of a run go."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from glorasearch.config import Config, ListOf, Role
from glorasearch.errors import InputError
from glorasearch.redact import has_secret

Destination = Literal["tensorboard", "csv", "mlflow", "wandb"]


class LogConfig(Config):
    """Where the curves of a run go: losses, rates, probes, scores of the search and the race, the test's numbers.

    How often a training is measured say `train.record_every` and `train.probe_every`.
    """

    section: ClassVar[str] = "log"
    to: Annotated[ListOf[Destination], Role.BOOKKEEPING] = ("tensorboard", "csv")
    """Event files and tables in the run's folder, MLflow, Weights & Biases; the latter two have to be installed."""
    search_every: Annotated[int, Role.BOOKKEEPING] = Field(default=1, ge=1, le=1_000_000)
    """Finished trials of the search between two points of its curves."""
    project: Annotated[str, Role.BOOKKEEPING] = Field(default="glorasearch", min_length=1, max_length=128)
    """The experiment in MLflow, the project in Weights & Biases."""
    mlflow_uri: Annotated[str | None, Role.BOOKKEEPING] = Field(default=None, examples=["http://127.0.0.1:5000"])
    """Tracking server or database of MLflow; `MLFLOW_TRACKING_URI`, or `mlflow.db` in the workspace, if not given."""
    wandb_mode: Annotated[Literal["online", "offline"], Role.BOOKKEEPING] = "online"
    """`offline` keeps the run of Weights & Biases in the run's folder, for `wandb sync`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.to)) < len(self.to):
            raise ValueError(f"to names a place twice: {list(self.to)}")
        if self.mlflow_uri is not None and has_secret(self.mlflow_uri):
            raise ValueError(
                "mlflow_uri holds a password, which would be recorded; give it by MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            )
        return self

    def check(self) -> None:
        """Refuse to log to what is not installed, or not logged in to.

        Raises:
            InputError: saying what to install or to set.
        """
        for package, name in (("mlflow", "MLflow"), ("wandb", "Weights & Biases")):
            if package in self.to and find_spec(package) is None:
                raise InputError(
                    f"log.to names {package}, but {name} is not installed: pip install 'glorasearch[{package}]', or "
                    "leave it out"
                )
        if "wandb" in self.to and self.wandb_mode == "online" and os.environ.get("WANDB_MODE") is None:
            import wandb

            if not wandb.api.api_key:
                raise InputError(
                    "log.to names wandb, but nobody is logged in to Weights & Biases: `wandb login`, or WANDB_API_KEY; "
                    'or set log.wandb_mode = "offline"'
                )
