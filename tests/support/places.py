"""A workspace with runs that were not computed: records, weights, studies and folders, to be changed by tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from optuna.study import StudyDirection

from glorasearch.db import RunState, TrialStorage
from glorasearch.runs.workspace import Workspace
from support.stage_results import result
from support.stored_runs import run as stored

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
"""Digests of weight sets."""


class Place:
    """A workspace with runs that were not computed."""

    def __init__(self, path: Path, database: str | None = None) -> None:
        self.path = path
        self.workspace = Workspace.open(path, database)
        self.options = ["--workspace", str(path)]

    def add(self, name: str, *weights: str, state: RunState = RunState.FINISHED, **config: Any) -> None:
        """A run with weights of train and refit, a study with a trial, and a folder."""
        record = stored(name)
        runs = self.workspace.runs
        runs.create(name, record.config | config, record.digest)
        for stage, digest in zip(("train", "refit"), weights, strict=False):
            runs.set_stage(name, stage, result(stage, weights=digest))
            (self.path / "weights" / digest).mkdir(parents=True, exist_ok=True)
            (self.path / "weights" / digest / "weights.safetensors").write_bytes(bytes(1000))
        runs.set_state(name, state)
        storage = TrialStorage(self.workspace.database)
        storage.create_new_trial(storage.create_new_study([StudyDirection.MAXIMIZE], name))
        folder = self.workspace.run_folder(name)
        folder.mkdir(parents=True)
        (folder / "report.json").write_text("{}")

    @property
    def state(self) -> tuple[set[str], set[str], set[str], set[str]]:
        """Runs and studies in the database, folders, weight sets."""
        studies = {study.study_name for study in TrialStorage(self.workspace.database).get_all_studies()}
        names = {record.name for record in self.workspace.list_runs()}
        return names, studies, *(set(os.listdir(self.path / part)) for part in ("runs", "weights"))
