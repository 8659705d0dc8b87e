"""The section `log` of a run file: where the curves of a run go."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from glorasearch.config import Config, ListOf, Role
from glorasearch.errors import InputError
from glorasearch.redact import has_secret
from glorasearch.runs.telemetry.asked import PROTOCOL, PROTOCOL_VARIABLES, asked_by_environment
from glorasearch.runs.telemetry.port import check_port

Destination = Literal["tensorboard", "csv", "mlflow", "wandb", "otlp"]


class LogConfig(Config):
    """Where the curves of a run go: losses, rates, probes, scores of the search and the race, the test's numbers.

    How often a training is measured say `train.record_every` and `train.probe_every`.
    """

    section: ClassVar[str] = "log"
    to: Annotated[ListOf[Destination], Role.BOOKKEEPING] = ("tensorboard", "csv")
    """Event files and tables in the run's folder, MLflow, Weights & Biases; `otlp` sends traces of the stages to
    OpenTelemetry. All but the first two have to be installed."""
    search_every: Annotated[int, Role.BOOKKEEPING] = Field(default=1, ge=1, le=1_000_000)
    """Finished trials of the search between two points of its curves."""
    project: Annotated[str, Role.BOOKKEEPING] = Field(default="glorasearch", min_length=1, max_length=128)
    """The experiment in MLflow, the project in Weights & Biases."""
    mlflow_uri: Annotated[str | None, Role.BOOKKEEPING] = Field(default=None, examples=["http://127.0.0.1:5000"])
    """Tracking server or database of MLflow; `MLFLOW_TRACKING_URI`, or `mlflow.db` in the workspace, if not given."""
    wandb_mode: Annotated[Literal["online", "offline"], Role.BOOKKEEPING] = "online"
    """`offline` keeps the run of Weights & Biases in the run's folder, for `wandb sync`."""

    prometheus: Annotated[int | None, Role.BOOKKEEPING] = Field(default=None, ge=0, le=65_535, examples=[9464])
    """Port on which this process serves its metrics to Prometheus while it works; 0 takes a free one."""
    prometheus_host: Annotated[str, Role.BOOKKEEPING] = Field(default="127.0.0.1", min_length=1, max_length=255)
    """Address on which it does; 0.0.0.0 lets every machine that reaches this one read them."""

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

    @property
    def traced(self) -> bool:
        """Whether the stages are traced, because the run file or the environment asks for it."""
        return "otlp" in self.to or asked_by_environment() is not None

    def check(self) -> None:
        """Refuse to log to what is not installed, not logged in to, or taken.

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
        self._check_telemetry()

    def _check_telemetry(self) -> None:
        install = "pip install 'glorasearch[telemetry]'"
        if self.prometheus is not None:
            if is_missing("prometheus_client"):
                raise InputError(f"log.prometheus needs prometheus-client: {install}, or leave it out")
            check_port(self.prometheus_host, self.prometheus)
        if not self.traced:
            return
        asking = "log.to names otlp" if "otlp" in self.to else f"{asked_by_environment()} asks for traces"
        no_thanks = "leave it out" if "otlp" in self.to else "set OTEL_SDK_DISABLED=true for none"
        if any(map(is_missing, ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"))):
            raise InputError(f"{asking}, but OpenTelemetry is not installed: {install}, or {no_thanks}")
        for name in PROTOCOL_VARIABLES:
            if os.environ.get(name, PROTOCOL) != PROTOCOL:
                raise InputError(
                    f"{asking}, and {name} is {os.environ[name]!r}; traces are sent by {PROTOCOL} alone: set it to "
                    f"that, and the endpoint to its port (4318 in most receivers), or {no_thanks}"
                )


def is_missing(module: str) -> bool:
    """Whether a module, or a package that it is in, is not installed."""
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:
        return True
