"""An evaluator built from plain JSON, as a worker builds it, scores like the one at home."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.models import TINY_VIT, randomise

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, SearchData, load_search_data
from glorasearch.errors import EvaluationError, WeightsNotFoundError, WeightStoreError
from glorasearch.evaluation import CandidateEvaluator, EvaluatorSpec, build_evaluator, load_weights
from glorasearch.space import EvaluationTask, SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.weights import WeightStore, tensor_digest

BACKBONE = BackboneConfig(
    name="vit_tiny_patch16_224",
    pretrained=False,
    args=TINY_VIT | {"depth": 1},
)
DATA = DataConfig(source="digits", train=40, search=30, mean=(0.5,), std=(0.5,))
SPACE = SearchSpace.from_dict({"name": "tiny", "choices": {"B": ["none", "lora:2"], "E": ["none", "vector"]}})


def home(tmp_path: Path) -> tuple[Supernet, SearchData, EvaluatorSpec]:
    backbone = build_backbone(BACKBONE, 10)
    supernet = Supernet(backbone, SPACE)
    randomise(supernet)
    data = load_search_data(DATA, InputSpec.from_backbone(backbone))
    store = WeightStore(str(tmp_path / "weights"))
    manifest = {"backbone_digest": tensor_digest(supernet.frozen_state())}
    spec = EvaluatorSpec(
        backbone=BACKBONE,
        classes=10,
        data=DATA,
        space=SPACE,
        store=str(tmp_path / "weights"),
        weights=store.put(supernet.adapter_state(), manifest),
        split=data.search.digest,
        batch_size=16,
    )
    return supernet, data, spec


def test_a_worker_scores_like_home(tmp_path: Path) -> None:
    supernet, data, spec = home(tmp_path)
    there = build_evaluator(json.loads(json.dumps(spec.to_json())))
    here = CandidateEvaluator(supernet, data.search, batch_size=16)
    for subnet in (supernet.space.smallest(), supernet.space.largest()):
        result = there(EvaluationTask(subnet.to_json(), subnet.digest, spec.weights))
        expected = here.evaluate(subnet)
        assert result.error is None
        assert result.score is not None
        assert replace(result.score, seconds=0.0) == replace(expected, seconds=0.0)


def test_another_search_split_is_refused(tmp_path: Path) -> None:
    _, _, spec = home(tmp_path)
    with pytest.raises(EvaluationError, match=r"search split found here \(\w{12}\) is not the one of the search"):
        build_evaluator(spec.replace(split="0" * 64).to_json())


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    supernet, _, spec = home(tmp_path)
    with torch.no_grad():
        supernet.frozen_state()["norm.weight"].mul_(2)
    with pytest.raises(EvaluationError, match="were trained on a backbone with digest"):
        load_weights(supernet, WeightStore(spec.store), spec.weights)


def test_missing_weights_and_weights_of_another_space(tmp_path: Path) -> None:
    _, _, spec = home(tmp_path)
    with pytest.raises(WeightsNotFoundError):
        build_evaluator(spec.replace(weights="0" * 64).to_json())
    other = {"name": "tiny", "choices": {"B": ["none", "lora:2"]}}
    with pytest.raises(WeightStoreError, match="belong to another supernet"):
        build_evaluator(spec.replace(space=SearchSpace.from_dict(other)).to_json())


def test_the_head_is_drawn_from_the_seed_alone() -> None:
    """Workers build the backbone again: it has to be the same one, whatever torch has drawn before."""
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(build_backbone(BACKBONE, 10).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    other = build_backbone(BACKBONE, 10, seed=5).state_dict()
    assert not torch.equal(other["head.weight"], states[0]["head.weight"])
