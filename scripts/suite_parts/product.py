"""Runs of the product: the arms that search, race and refit as a user's run does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from glorasearch import Report, Run, load_export
from glorasearch.data import TestSplit
from glorasearch.errors import RunLockedError
from glorasearch.runs.pipeline import run_stages
from suite_parts.arms import ARMS
from suite_parts.configs import run_config
from suite_parts.lab import TEST_BATCH, Lab, Logits, correct_images
from suite_parts.spent import spending
from suite_parts.units import Content, Unit

COMMANDS = ("train", "search", "race", "refit")
"""What a run spends on its model, in order; `train` has the pilots, too."""
LOCKED_SECONDS = 60.0
"""How long to wait for a process that was told to stop and still holds a run."""
T = TypeVar("T")


def run_of(lab: Lab, unit: Unit, *overrides: str) -> Run:
    """The run of an arm; runs of one task and seed are in one workspace, where they share supernets.

    `overrides` are those that it has besides its arm's, of one that is not the arm's only run.
    """
    settings = lab.settings
    config = run_config(
        settings,
        unit.arm,
        lab.data_config(unit).model_dump(mode="json", exclude_unset=True),
        seed=unit.seed,
        limit=lab.limit(settings.small_budget if ARMS[unit.arm].small else settings.budget),
        threads=lab.threads,
        more=overrides,
    )
    return Run(config, lab.folders.workspace(unit), progress=lab)


def product(lab: Lab, unit: Unit) -> Content:
    """What an arm of the product finds: the exported model on the test split, and what it cost."""
    run = run_of(lab, unit)
    walls = _stages(lab, unit, run)
    report = execute(run)
    splits = lab.splits(unit)
    correct = correct_images(_logits(load_export(report.export.path), splits.test, lab.device), splits.test.labels)
    stages = {name: result.model_dump(mode="json") for name, result in run.results.items()}
    # The race's rate is the one before the factors of a method's recipe, as the yardstick's is.
    rate = stages["race"]["candidates"][0]["rate"] if "race" in stages else stages["refit"]["lr"]
    return {
        "test_accuracy": correct.count("1") / len(correct),
        "correct": correct,
        "pick": {"name": report.winner.name, "kind": report.winner.kind, "rate": rate},
        "parameters": report.winner.parameters,
        **_costs(stages, walls),
        "stages": {name: _short(result) for name, result in stages.items()},
    }


def execute(run: Run) -> Report:
    """All stages that are not done yet."""
    return unlocked(run.execute)


def _stages(lab: Lab, unit: Unit, run: Run) -> dict[str, float]:
    """Run the stages that make the model; their wall-clock seconds, of all calls together."""
    path = lab.folders.partial(unit) / "walls.json"
    session = run.session()
    _, _ = session.data, session.backbone  # every arm needs them: they belong to none
    for command in COMMANDS:
        if command in run.results or (command == "race" and not run.config.race.enabled):
            continue
        with spending(path, lambda command=command: {command: time.perf_counter()}):  # type: ignore[misc]
            unlocked(lambda command=command: run_stages(session, command))  # type: ignore[misc]
    walls: dict[str, float] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return walls


def unlocked(work: Callable[[], T]) -> T:
    """Do it; waits a while for a process that is about to end and has the run's lock."""
    until = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            return work()
        except RunLockedError:
            if time.monotonic() > until:
                raise
            time.sleep(1)


@torch.inference_mode()
def _logits(model: nn.Module, split: TestSplit, device: str) -> Logits:
    model = model.to(device).eval()
    parts = [
        model(split.batch(slice(first, min(first + TEST_BATCH, len(split))), device)[0]).float().cpu()
        for first in range(0, len(split), TEST_BATCH)
    ]
    found: Logits = torch.cat(parts).numpy()
    return found


def _costs(stages: Mapping[str, Mapping[str, Any]], walls: Mapping[str, float]) -> dict[str, Any]:
    """Steps of the exported model and of all models, and seconds of training and of everything else.

    What a run took over from another one of its workspace is counted in full, but for what that spent besides training.
    """
    refit = stages["refit"]
    teachers = refit["teachers"] or {"steps": 0, "seconds": 0.0}
    trained = [stages[name] for name in ("pilot", "train", "race", "refit") if name in stages] + [teachers]
    training = sum(result["seconds"] for result in trained)
    taken_over = sum(
        stages[name]["seconds"] for name in ("pilot", "train") if stages.get(name, {}).get("from_run") is not None
    )
    raced = stages.get("race", {}).get("taken_over") or {"seconds": 0.0}
    whole = sum(walls.values()) + taken_over + raced["seconds"]
    return {
        "steps": refit["steps"],
        "model_steps": sum(result["steps"] for result in trained),
        "seconds": {"training": training, "evaluation": max(0.0, whole - training)},
        "stage_seconds": dict(walls),
    }


def _short(result: dict[str, Any]) -> dict[str, Any]:
    """A stage's result without what is long; of a race, how the candidates did."""
    short = {key: value for key, value in result.items() if not isinstance(value, list | dict) or len(value) <= 12}
    if "candidates" in result:
        short["candidates"] = [
            {key: one[key] for key in ("name", "kind", "rate", "parameters")}
            | {key: one["scores"][-1][key] for key in ("folds", "accuracy", "tempered")}
            for one in result["candidates"]
        ]
    return short
