"""The last stage: everything that a run found, in one file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from glorasearch.errors import RunError
from glorasearch.runs.fixed import FIXED, is_fixed, other_baselines
from glorasearch.runs.records import report_path
from glorasearch.runs.run import Run

WITHOUT_EARLY_STOPPING = {"stopped_early": 0, "images_share": 1.0, "evaluation_seconds": None}
"""What the search of a run says that was made before there was early stopping."""


def report(run: Run) -> dict[str, Any]:
    """Put the results of the stages together and write `report.json`; returns its content."""
    training, search, tested = run.require("train"), dict(run.require("search")), run.require("test")
    refitted, exported = run.require("refit"), run.require("export")
    baselines: dict[str, Any] = {}
    for name in other_baselines(run):
        trained = run.require(f"baseline:{name}")
        baselines[name] = {
            "parameters": trained["parameters"],
            "test_accuracy": tested["baselines"][name],
            "steps": trained["steps"],
            "seconds": trained["seconds"],
            "trained_on": "train + search",
        }
    content = {
        "run": run.name,
        "seed": run.config.seed,
        "backbone": run.config.backbone.name,
        "task": run.config.data.source,
        "space": run.config.space.name,
        FIXED: is_fixed(run),
        "splits": tested["splits"],
        "supernet": {key: training[key] for key in ("steps", "seconds", "weights")},
        "search": {
            key: (WITHOUT_EARLY_STOPPING | search)[key]
            for key in (
                "sampler",
                "fitness",
                "trials",
                "evaluated",
                "reused",
                "stopped_early",
                "images_share",
                "failed",
                "seconds",
                "evaluation_seconds",
            )
        },
        "winner": {key: search[key] for key in ("trial", "subnet", "digest", "parameters", "search_accuracy")}
        | {"test_accuracy": tested["winner"], "refit_test_accuracy": tested["winner_refitted"]},
        "refit": {key: refitted[key] for key in ("steps", "seconds", "start")},
        "baselines": baselines,
        "random_subnets": tested["random_subnets"],
        "export": {key: exported[key] for key in ("path", "max_abs_diff")},
        "versions": run.versions(),
    }
    _write(report_path(run.name, run.workspace), content)
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON to a temporary name and rename it, so that a reader sees all of it or none."""
    temporary = path.with_suffix(".json.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"report {path} cannot be written: {error.strerror}") from error
