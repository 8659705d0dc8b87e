"""A supernet that one run of a workspace has trained serves every other run that would train the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glorasearch.db import RunStore

Bench = Any
MakeBench = Callable[..., Bench]


def test_another_search_takes_the_training_over(make_bench: MakeBench, undisturbed: Bench, tmp_path: Path) -> None:
    """A run that differs in what follows the training only does not train the supernet again."""
    shutil.copytree(undisturbed.workspace, tmp_path / "workspace")
    bench = make_bench("name=again", "search.fitness=accuracy", "refit.steps=0", workspace=tmp_path / "workspace")
    errors = bench.finish()
    assert f"supernet: taken over from run '{undisturbed.record.name}'" in errors
    store = RunStore(bench.database_url)
    again, before = store.get("again"), undisturbed.record
    assert again is not None
    assert again.stages["train"]["weights"] == before.stages["train"]["weights"]
    assert again.stages["train"]["from_run"] == before.name
    assert not store.metrics("again", "train")
    other = make_bench("name=other", "train.steps=8", "report.baselines=[]", workspace=tmp_path / "workspace")
    assert "taken over" not in other.finish()
