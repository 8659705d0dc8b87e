"""Runs as the database has them, made up."""

from __future__ import annotations

import datetime
from typing import Any

from glorasearch.db import RunRecord, RunState
from glorasearch.runs.config import RunConfig, configuration_digest
from glorasearch.runs.results import Correct
from support.stage_results import SPLIT, SPLITS, result

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
IMAGES = {"train": 800, "search": 200, "test": 800}


def run(name: str, *overrides: str, test: float | None = 0.75, parameters: int = 100, **stages: Any) -> RunRecord:
    """A run as the database has it; one that has no test accuracy stopped after its search."""
    content = {"name": name, "backbone": {"name": "vit"}, "data": {"source": "digits"}, "space": {"name": "lora"}}
    run_file = RunConfig.from_dict(content, overrides)
    seed = run_file.data.seed if run_file.data.seed is not None else run_file.seed
    digests = {role: f"{role}-{run_file.data.source}-{seed}".encode().hex() for role in IMAGES}
    splits = {role: SPLIT | {"images": count, "digest": digests[role][::-1]} for role, count in IMAGES.items()}
    done = {
        "train": result("train", seconds=10.0, split=splits["train"]["digest"], fixed_method=True),
        "search": search(parameters=parameters, split=splits["search"]["digest"]),
    }
    if test is not None:
        done["refit"] = result("refit", seconds=5.0)
        accuracies = {"test_accuracy": test, "test_accuracy_inherited": 0.5}
        correct = Correct.pack(index < round(test * IMAGES["test"]) for index in range(IMAGES["test"]))
        done["test"] = result("test", splits=SPLITS | splits, correct=correct, **accuracies)
    configuration = run_file.configuration(run_file.load_spaces())
    return RunRecord(
        name=name,
        config=configuration,
        digest=configuration_digest(configuration),
        state=RunState.STOPPED if test is None else RunState.FINISHED,
        error=None,
        created=NOW,
        updated=NOW,
        owner=None,
        stages={stage: content for stage, content in (done | stages).items() if content is not None},
    )


def search(*, parameters: int = 100, **changes: Any) -> dict[str, Any]:
    changes = {"search_accuracy": 0.5, "images": 200, "seconds": 3.0} | changes
    return result("search", parameters=parameters, stored=parameters, **changes)
