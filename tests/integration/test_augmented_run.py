"""A run whose images are augmented, from a folder to the report: the same again, and told of in its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.drawings import write_drawings
from support.runs import timeless

from glorasearch import Run
from glorasearch.runs import RunConfig

SMALL = {"img_size": 28, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run file of few steps: pilots, supernet, race, teachers, refit, a baseline."""
    folder = tmp_path_factory.mktemp("drawings") / "images"
    write_drawings(folder, 6, seed=0, kinds=("photo.jpg",))
    return {
        "device": "cpu",
        "backbone": {"name": "vit_tiny_patch16_224", "pretrained": False, "args": SMALL},
        "data": {"source": f"folder:{folder}"},
        "space": {"name": "lean"},
        "train": {"steps": 6, "batch_size": 8, "pilot_rates": [1e-3, 1e-2], "pilot_steps": 3, "augment": "strong"},
        "search": {"trials": 4},
        "race": {
            **{"steps": 2, "folds": 2, "rungs": [1], "keep": 2, "rates": [1e-2]},
            **{"methods": ["bitfit"], "named": 1, "finalists": 1},
        },
        "refit": {"steps": 3, "teachers": 2, "orders": 1, "teacher_steps": 2, "mixed": 10},
        "report": {"flips": True, "chance_subnets": 0, "resamples": 0},
    }


def report_of(content: dict[str, Any], workspace: Path) -> dict[str, Any]:
    report = Run(RunConfig.from_dict(content), workspace=workspace).execute()
    found: dict[str, Any] = json.loads(report.model_dump_json())
    return found


def test_a_run_is_repeated_to_the_bit_and_differs_from_one_without(content: dict[str, Any], tmp_path: Path) -> None:
    first, again = (report_of(content, tmp_path / place) for place in ("one", "two"))
    assert timeless(first) == timeless(again)
    assert "top1_mirrored" in first["metrics"]
    plain = report_of(content | {"train": content["train"] | {"augment": "none"}, "report": {}}, tmp_path / "three")
    assert "top1_mirrored" not in plain["metrics"]
    assert plain["splits"]["train"]["digest"] == first["splits"]["train"]["digest"]
    assert plain["metrics"]["log_loss"]["value"] != first["metrics"]["log_loss"]["value"]
    assert plain["best_searched"]["search_cross_entropy"] != first["best_searched"]["search_cross_entropy"]
