"""Curves for MLflow: one run of an experiment, resumed when the run is."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from glorasearch.bounded import read_json_file
from glorasearch.redact import redact_url
from glorasearch.runs.curves.hyperparameters import Hyperparameter
from glorasearch.runs.curves.rows import Row, tag
from glorasearch.runs.curves.tracker import Point, Tracker

_STATES: Final = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_MOST_METRICS: Final = 1_000
_MOST_PARAMETERS: Final = 100
_LONGEST: Final = 500
"""Characters of a parameter's value that every version of MLflow takes."""
_LONGEST_NAME: Final = 250


class MlflowTracker(Tracker):
    """A run of MLflow; its id is kept in the folder of the curves."""

    def __init__(
        self, uri: str, experiment: str, name: str, note: Path, hyperparameters: Mapping[str, Hyperparameter]
    ) -> None:
        """Nothing is reached yet.

        Args:
            uri: of the tracking server or database.
            experiment: made if there is none.
            name: of the run.
            note: a file that remembers the run's id.
            hyperparameters: of the run.
        """
        self._uri, self._experiment, self._name, self._note = uri, experiment, name, note
        self._hyperparameters = hyperparameters
        self._known: dict[str, set[int]] = {}
        self._resumed = False
        super().__init__()

    @property
    def place(self) -> str:
        """MLflow, and where it is."""
        return f"MLflow ({redact_url(self._uri)})"

    def connect(self) -> None:
        """Resume the run that was noted, or make one."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.ERROR)  # it tells of every table that it makes

        self._client: Any = MlflowClient(tracking_uri=self._uri)
        known = self._noted()
        self._resumed = known is not None
        if known is not None:
            self._run = known
            self._client.update_run(known, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self._experiment)
        identifier = self._client.create_experiment(self._experiment) if found is None else found.experiment_id
        self._run = self._client.create_run(identifier, run_name=self._name).info.run_id
        self._note.parent.mkdir(parents=True, exist_ok=True)
        self._note.write_text(f'{{"run_id": "{self._run}"}}\n', "utf-8")
        parameters = iter(self._hyperparameters.items())
        while some := list(islice(parameters, _MOST_PARAMETERS)):
            pairs = [Param(mlflow_name(key), str(value)[:_LONGEST]) for key, value in some]
            self._client.log_batch(self._run, params=pairs)

    def has(self, point: Point) -> bool:
        """Whether the run has the point; asked once for each curve of a run that was resumed."""
        stage, step, name = point
        key = mlflow_name(tag(stage, name))
        if self._resumed and key not in self._known:
            self._known[key] = {metric.step for metric in self._client.get_metric_history(self._run, key)}
        return step in self._known.get(key, ())

    def send(self, rows: Sequence[Row]) -> None:
        """Add points, as many at once as MLflow takes."""
        from mlflow.entities import Metric

        metrics = iter(
            Metric(mlflow_name(tag(row.stage, name)), value, round(1_000 * row.time), row.step)
            for row in rows
            for name, value in row.values.items()
        )
        while some := list(islice(metrics, _MOST_METRICS)):
            self._client.log_batch(self._run, metrics=some)

    def end(self, state: str) -> None:
        """Set the run's state."""
        self._client.set_terminated(self._run, status=_STATES[state])

    def _noted(self) -> str | None:
        """The id of the run of an earlier process, if MLflow still has it."""
        from mlflow.exceptions import MlflowException

        try:
            known = str(read_json_file(self._note)["run_id"])
            found = self._client.get_run(known)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return known if found.info.lifecycle_stage == "active" else None


def tracking_uri(given: str | None, workspace: Path) -> str:
    """As the run file says, else the environment, else a database in the workspace."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace / 'mlflow.db'}"


def mlflow_name(name: str) -> str:
    """A name with the characters that MLflow takes, and no empty, `.` or `..` part."""
    parts = [part for part in re.sub(r"[^\w\-. /]", "-", name, flags=re.ASCII).split("/") if part.strip(". ")]
    return "/".join(parts)[:_LONGEST_NAME]
