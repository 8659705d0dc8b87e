"""Curves for Weights & Biases: one run of a project, resumed when the run is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from glorasearch.identity import digest
from glorasearch.runs.curves.hyperparameters import Hyperparameter
from glorasearch.runs.curves.rows import Row, tag
from glorasearch.runs.curves.tracker import Point, Tracker

STEP: Final = "step"
_FOLDER: Final = "wandb"
_OFFLINE: Final = "offline-run-*"
_SYNCED: Final = "*.synced"
"""What `wandb sync` leaves beside a run that it has sent."""


class WandbTracker(Tracker):
    """A run of Weights & Biases; each stage has its own axis, `<stage>/step`.

    Offline, a run that goes on is written anew, unless it has been synchronised. Online, it is resumed after the last
    step of each stage that is there.
    """

    def __init__(
        self,
        folder: Path,
        project: str,
        name: str,
        created: str,
        hyperparameters: Mapping[str, Hyperparameter],
        *,
        offline: bool,
    ) -> None:
        """Nothing is reached yet.

        Args:
            folder: for its files.
            project: made if there is none.
            name: of the run.
            created: when the run was made: one that started over is another.
            hyperparameters: of the run.
            offline: keep it in the folder.
        """
        self._folder, self._project, self._name, self._offline = folder, project, name, offline
        self._id = digest({"folder": str(folder), "name": name, "created": created})[:16]
        self._hyperparameters = hyperparameters
        self._last: dict[str, float] = {}
        self._defined: set[str] = set()
        super().__init__()

    @property
    def place(self) -> str:
        """Weights & Biases, and where."""
        return f"Weights & Biases ({self._folder / _FOLDER})" if self._offline else "Weights & Biases"

    def connect(self) -> None:
        """Resume or begin the run."""
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        unsent = [path for path in (self._folder / _FOLDER).glob(_OFFLINE) if not any(path.glob(_SYNCED))]
        for path in unsent if self._offline else ():
            shutil.rmtree(path)
        self._run: Any = wandb.init(
            project=self._project,
            name=self._name,
            id=self._id,
            dir=self._folder,
            config=dict(self._hyperparameters),
            mode="offline" if self._offline else None,
            resume=None if self._offline else "allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        if not self._offline and self._run.resumed:
            self._last = {key: value for key, value in dict(self._run.summary).items() if key.endswith(f"/{STEP}")}

    def has(self, point: Point) -> bool:
        """Whether the run there was further than that when it was resumed."""
        stage, step, _ = point
        return step <= self._last.get(tag(stage, STEP), -1)

    def send(self, rows: Sequence[Row]) -> None:
        """Log the points, each with its stage's step."""
        for row in rows:
            axis = tag(row.stage, STEP)
            values = {tag(row.stage, name): value for name, value in row.values.items()}
            for key in values.keys() - self._defined:
                self._run.define_metric(key, step_metric=axis)
            self._defined |= values.keys()
            self._run.log(values | {axis: row.step})

    def end(self, state: str) -> None:
        """Finish the run."""
        self._run.finish(exit_code=int(state != "finished"))
