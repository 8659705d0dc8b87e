"""Runs of the product: the arms that search, race and refit as a user's run does."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from glorasearch import Run, RunConfig, load_export
from glorasearch.data import TestSplit
from glorasearch.errors import RunLockedError
from glorasearch.runs.progress import Progress, Silent
from suite_parts.arms import ARMS
from suite_parts.lab import TEST_BATCH, Lab, correct_images
from suite_parts.settings import run_file
from suite_parts.units import Content, Unit

TRAINED = ("pilot", "train", "race", "refit")
"""The stages that train; scores that they take in passing are part of their seconds."""
LOCKED_SECONDS = 60.0
"""How long to wait for a process that was told to stop and still holds a run."""


def run_of(lab: Lab, unit: Unit, progress: Progress | None = None) -> Run:
    """The run of an arm; runs of one task and seed are in one workspace, where they share supernets."""
    arm, settings = ARMS[unit.arm], lab.settings
    content: dict[str, Any] = copy.deepcopy(run_file())
    content |= {"name": unit.arm, "seed": unit.seed, "device": settings.device, "threads": lab.threads}
    content["backbone"] = {"name": settings.backbone}
    content["data"] = lab.data_config(unit).model_dump(mode="json", exclude_unset=True)
    content["space"] |= {"max": lab.limit(settings.small_budget if arm.small else settings.budget)}
    config = RunConfig.from_dict(content, [*settings.overrides, *arm.overrides], source="scripts/suite.toml")
    return Run(config, lab.folders.workspace(unit), progress=progress or Silent())


def product(lab: Lab, unit: Unit) -> Content:
    """What an arm of the product finds: the exported model on the test split, and what it cost."""
    run = run_of(lab, unit)
    report = execute(run)
    splits = lab.splits(unit)
    correct = correct_images(_logits(load_export(report.export.path), splits.test, lab.device), splits.test.labels)
    stages = {name: result.model_dump(mode="json") for name, result in run.results.items()}
    return {
        "test_accuracy": correct.count("1") / len(correct),
        "correct": correct,
        "parameters": report.winner.parameters,
        **costs(stages),
        "stages": {name: _short(result) for name, result in stages.items()},
    }


def execute(run: Run) -> Any:
    """All stages; waits a while for a process that is about to end and has the run's lock."""
    until = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            return run.execute()
        except RunLockedError:
            if time.monotonic() > until:
                raise
            time.sleep(1)


@torch.inference_mode()
def _logits(model: nn.Module, split: TestSplit, device: str) -> Any:
    model = model.to(device).eval()
    parts = [
        model(split.batch(slice(first, min(first + TEST_BATCH, len(split))), device)[0]).float().cpu()
        for first in range(0, len(split), TEST_BATCH)
    ]
    return torch.cat(parts).numpy()


def costs(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Steps one after the other, steps of all models, and seconds of training and evaluation.

    What a run took over from another one of its workspace is counted in full.
    """
    trained = [stages[name] for name in TRAINED if name in stages]
    return {
        "steps": sum(result["steps"] for result in trained),
        "model_steps": sum(result.get("model_steps", result["steps"]) for result in trained),
        "seconds": {
            "training": sum(result["seconds"] for result in trained),
            "evaluation": stages["search"]["seconds"],
        },
    }


def _short(result: dict[str, Any]) -> dict[str, Any]:
    """A stage's result without long lists."""
    return {key: value for key, value in result.items() if not isinstance(value, list | dict) or len(value) <= 12}
