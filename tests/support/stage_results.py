"""Results of stages as a tiny run has them, for tests that need no run."""

from __future__ import annotations

from typing import Any

from glorasearch.runs.results import DataSummary, Report
from glorasearch.runs.stage_result import StageResult
from glorasearch.space import Subnet

SUBNET = Subnet({("blocks.0.attn.qkv", "B"): "lora:4"})
TRAINED: dict[str, Any] = {"weights": "a" * 64, "steps": 5, "seconds": 1.0, "loss": 0.5, "split": "train"}
SEARCH_SUMMARY: dict[str, Any] = {
    "sampler": "evolution", "fitness": "tempered", "trials": 9, "evaluated": 7, "reused": 2, "stopped_early": 0,
    "images_share": 1.0, "failed": 0, "seconds": 1.0, "evaluation_seconds": 1.0,
}  # fmt: skip
WINNER: dict[str, Any] = {
    "trial": 3, "subnet": SUBNET.to_dict(), "digest": SUBNET.digest, "parameters": 1234, "search_accuracy": 0.5,
    "search_cross_entropy": 1.0, "search_tempered": 0.9, "search_temperature": 2.0,
    "start": "lora:4 everywhere", "start_share": 0.75,
}  # fmt: skip
CORRECT: dict[str, Any] = {"images": 8, "bits": "+A=="}
"""The first five of eight images."""
SPLIT: dict[str, Any] = {"images": 100, "origin": "drawn", "classes_without_images": 0, "in_memory": True}
SPLITS = DataSummary.from_json(
    {"source": "digits", "classes": 10, "input": {}, "overlap": {}}
    | {role: SPLIT | {"digest": role} for role in ("train", "search", "test")}
).to_json()
PILOT: dict[str, Any] = {
    "rate": 3e-3, "steps": 100, "seconds": 1.0, "checks": [34, 68, 100], "scores": [2.0, 1.5, 1.25], "stopped": False,
    "diverged": False,
}  # fmt: skip


def candidate(name: str, kind: str, accuracy: float, **changes: Any) -> dict[str, Any]:
    """A candidate of a race, as JSON."""
    key = "race.methods." + name if kind == "method" else "space"
    score = {"rung": 1, "folds": 2, "images": 40, "accuracy": accuracy, "tempered": 1.25, "beta": 0.5, "judged": None}
    return {
        "name": name, "kind": kind, "space_key": key, "parameters": 1234, "rate": 3e-3, "start": "fresh",
        "scores": [score, score | {"rung": 2, "folds": 5, "images": 100}], "steps": 2000, "seconds": 2.0,
        "subnet": SUBNET.to_dict(), "digest": SUBNET.digest, "stored": 1234,
    } | changes  # fmt: skip


RACE_SUMMARY: dict[str, Any] = {
    "judge": "accuracy", "folds": 5, "steps": 4000, "trainings": 10, "seconds": 4.0, "left_out": {},
    "candidates": [candidate("lora", "method", 0.75), candidate("trial 3", "searched", 0.5)],
}  # fmt: skip
RESULTS: dict[str, dict[str, Any]] = {
    "rate": PILOT | {"key": "k"},
    "pilot": {
        "lr": 3e-3, "pilots": [PILOT], "subnets": 9, "steps": 100, "seconds": 1.0, "key": "k", "split": "train+search",
    },
    "train": TRAINED | {"key": "k", "fixed_method": False},
    "search": SEARCH_SUMMARY
    | WINNER
    | {"stored": 1234, "images": 100, "split": "search", "pareto": [], "chance": None},
    "race": RACE_SUMMARY | {"split": "train + search"},
    "refit": TRAINED | {"start": "inherited", "lr": 1e-3},
    "baseline": TRAINED | {"space": "lora", "parameters": 600, "lr": 1e-3},
    "test": {
        "test_accuracy": 0.625, "test_accuracy_inherited": 0.5, "correct": CORRECT, "baselines": {},
        "baselines_correct": {}, "random_subnets": None, "splits": SPLITS,
    },
    "export": {"path": "/somewhere", "max_abs_diff": 1e-6, "digest": "d", "bytes": 1, "files": [], "tested": True},
    "format": {
        "format": "onnx", "path": "/somewhere-onnx", "max_abs_diff": 1e-6, "bytes": 1, "files": [], "sha256": {},
        "of_weights": "a" * 64,
    },
    "report": {
        "run": "tiny", "seed": 0, "backbone": "vit", "task": "digits", "space": "lean", "fixed_method": False,
        "splits": SPLITS, "lr": 1e-3, "pilots": None,
        "supernet": {"steps": 5, "kept_step": None, "seconds": 1.0, "weights": "a" * 64},
        "search": SEARCH_SUMMARY,
        "best_searched": {key: value for key, value in WINNER.items() if key != "subnet"} | {"search_fitness": 0.9},
        "race": None,
        "winner": WINNER
        | {"name": "trial 3", "kind": "searched", "test_accuracy": 0.625, "test_accuracy_inherited": 0.5,
           "test_error": None, "test_error_inherited": None},
        "refit": {
            "steps": 5, "kept_step": None, "seconds": 1.0, "start": "inherited", "lr": 1e-3, "teachers": None,
            "judged": None,
        },
        "baselines": {}, "comparisons": [], "random_subnets": None, "chance": None, "statements": [], "versions": {},
        "export": {"path": "/somewhere", "max_abs_diff": 1e-6},
    },
}  # fmt: skip


def result(stage: str, **changes: Any) -> dict[str, Any]:
    """The result of a stage, as JSON of the database."""
    return StageResult.types[stage].from_json(RESULTS[stage] | changes).to_json()


def report(**changes: Any) -> Report:
    """A report; `winner`, `search` and `refit` are changed key by key."""
    nested = {
        key: RESULTS["report"][key] | value for key, value in changes.items() if key in ("winner", "search", "refit")
    }
    return Report.from_json(RESULTS["report"] | changes | nested)
