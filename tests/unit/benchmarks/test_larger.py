"""Every larger model is trained in all three ways, in a form of a few blocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from glorasearch.fused import FusedStep, StepConfig
from glorasearch.space import SearchSpace, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY

Benches = Callable[[str], ModuleType]
MODELS = ("dinov2", "eva02", "siglip", "convnext")


def test_a_row_for_each_model_and_way(benches: Benches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, path = benches("bench_larger"), tmp_path / "larger.json"
    command = ["bench_larger.py", "--device", "cpu", "--size", "tiny", "--repeats", "1", "--json", str(path)]
    monkeypatch.setattr("sys.argv", command)
    bench.main()
    rows = json.loads(path.read_text())["rows"]
    assert [(row["model"], row["peer"]) for row in rows] == [
        (model, peer) for model in MODELS for peer in ("glorasearch", "lora", "full")
    ]
    assert all(row["measured"] > 0 and row["images_per_second"] > 0 and not row["again"] for row in rows)


@pytest.mark.parametrize("name", MODELS)
def test_the_fast_path_covers_it(benches: Benches, name: str) -> None:
    """On a GPU `compile = on` is asked for, which refuses what cannot be fused."""
    one = benches("bench_larger").Bench(benches("bench_larger").CASES[name], "tiny", "cpu", None)
    supernet = Supernet(one.backbone(), SearchSpace.load(one.case.space)).train()
    loss = partial(CLASSIFY.subnet_loss, smoothing=0.0)
    step = FusedStep(supernet, StepConfig(dtype=torch.float32), loss=loss, teacher=CLASSIFY.teacher_of)
    images = torch.randn(4, 3, one.spec.height, one.spec.width, generator=torch.Generator().manual_seed(0))
    rates = {"factor": 1e-2, "vector": 1e-2, "head": 1e-2}
    subnet = sample(supernet.space, np.random.default_rng(0))
    losses = [float(step.run([subnet], images, torch.arange(4), rates)[0]) for _ in range(5)]
    assert losses[-1] < losses[0]
