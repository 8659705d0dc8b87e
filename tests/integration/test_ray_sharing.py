"""Two real evaluators in two actors of one node: what they have in common is in memory once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from support.models import randomise

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, load_search_data
from glorasearch.evaluation import CandidateEvaluator, EvaluatorSpec
from glorasearch.space import EvaluationResult, EvaluationTask, SearchSpace, sample
from glorasearch.supernet import Supernet
from glorasearch.weights import WeightStore, frozen_digest
from workers import RayExecutor

BACKBONE = BackboneConfig(
    name="vit_tiny_patch16_224",
    pretrained=False,
    args={"img_size": 56, "patch_size": 14, "embed_dim": 384, "depth": 4, "num_heads": 6, "in_chans": 1},
)
"""28 MB of frozen weights."""
DATA = DataConfig(source="digits", train=40, search=100, size=(56, 56), mean=(0.5,), std=(0.5,))
SPACE = SearchSpace.from_dict(
    {"name": "big", "choices": {"A": ["none", "lora:8"], "B": ["none", "lora:64"], "E": ["none", "vector"]}}
)


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RayExecutor, CandidateEvaluator, str]]:
    monkeypatch.setenv("GLORASEARCH_CACHE", str(tmp_path / "cache"))
    supernet = Supernet(build_backbone(BACKBONE, 10), SPACE)
    randomise(supernet, std=0.05)
    data = load_search_data(DATA, InputSpec.from_backbone(supernet.model))
    store = WeightStore(str(tmp_path / "weights"))
    digest = store.put(supernet.adapter_state(), {"backbone_digest": frozen_digest(supernet)})
    spec = EvaluatorSpec(
        backbone=BACKBONE,
        classes=10,
        data=DATA,
        space=SPACE,
        store=store.url,
        weights=digest,
        split=data.search.digest,
        threads=1,
        shared=True,
    )
    with RayExecutor("glorasearch.evaluation:build_evaluator", spec.to_json(), workers=2) as made:
        yield made, CandidateEvaluator(supernet, data.search), digest
    assert not ray.is_initialized()


def scores(result: EvaluationResult) -> tuple[Any, ...]:
    score = result.score
    return (score and replace(score, seconds=0.0)), result.error


def mapped(process: int, folder: Path) -> dict[str, dict[str, int]]:
    """Of every file under a folder that a process has mapped: kilobytes, as in /proc/PID/smaps."""
    found: dict[str, dict[str, int]] = {}
    current: dict[str, int] | None = None
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):
            path = line.split(maxsplit=5)[-1]
            current = found.setdefault(path, {}) if path.startswith(str(folder)) else None
        elif current is not None and rest.endswith("kB"):
            current[first[:-1]] = current.get(first[:-1], 0) + int(rest.split()[0])
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads what Linux says of a process's memory")
def test_frozen_weights_adapters_and_images_are_shared_pages(
    executor: tuple[RayExecutor, CandidateEvaluator, str], tmp_path: Path
) -> None:
    ray_executor, here, digest = executor
    rng = np.random.default_rng(0)
    space = here._space
    tasks = []
    while len(tasks) < 12 or ray_executor.status:
        subnet = sample(space, rng)
        tasks.append(EvaluationTask(subnet.to_json(), subnet.digest, digest))
        ray_executor.submit(tasks[-1])
        result = ray_executor.next_result()
        assert scores(result) == scores(here(tasks[-1]))
    first, second = (mapped(worker.location.process, tmp_path) for worker in ray_executor._pool.workers)
    assert first.keys() == second.keys()
    assert len(first) == 3, "backbone, adapters and images"
    for files in (first, second):
        sizes = sorted(file["Size"] for file in files.values())
        assert sizes[-1] > 28_000
        for path, file in files.items():
            assert file["Private_Dirty"] == 0, f"{path} was written to, so it is there twice"
            assert file["Shared_Clean"] + file["Shared_Dirty"] > 0, f"{path} is in memory for one of them alone"
    total = sum(file["Pss"] for files in (first, second) for file in files.values())
    once = sum(file["Size"] for file in first.values())
    assert total <= once, "two actors need the memory of one"
