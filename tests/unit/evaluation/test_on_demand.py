"""A split that does not stay in memory: the same scores, whatever mode the thread is in that asks for the images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.data import grey

from glorasearch.data import DataConfig, load_splits
from glorasearch.evaluation import CandidateEvaluator, correct_on_test, scoring
from glorasearch.space import sample
from glorasearch.supernet import Supernet


@pytest.mark.parametrize("kept_as_floats", [True, False])
def test_candidates_score_the_same(
    kept_as_floats: bool, new_supernet: Callable[..., Supernet], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DataConfig(source="digits", train=40, search=70, test=90)
    kept, on_demand = (load_splits(config.replace(max_memory_gib=gib), grey()) for gib in (4.0, 0.0))
    assert not on_demand.search.resident
    if not kept_as_floats:
        monkeypatch.setattr(scoring, "DEVICE_BYTES", 0)
    supernet = new_supernet()
    evaluators = [CandidateEvaluator(supernet, data.search, hardest_first=True) for data in (kept, on_demand)]
    assert torch.equal(evaluators[0].order, evaluators[1].order)
    for seed in range(3):
        subnet = sample(supernet.space, np.random.default_rng(seed))
        first, second = (evaluator.evaluate(subnet) for evaluator in evaluators)
        assert first.accuracy == second.accuracy
        assert first.cross_entropy == second.cross_entropy
    merged = supernet.merged(subnet)
    assert torch.equal(correct_on_test(merged, kept.test), correct_on_test(merged, on_demand.test))
