"""A candidate's score is that of its merged model on the search split, whatever was scored before it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from glorasearch.data import Splits
from glorasearch.errors import DataError, SearchSpaceError
from glorasearch.evaluation import CandidateEvaluator, accuracy_on_test
from glorasearch.evaluation.eager_model import EagerModel
from glorasearch.space import EvaluationTask, Score, Subnet, sample
from glorasearch.supernet import Supernet

NewSupernet = Callable[..., Supernet]


def candidates(supernet: Supernet, count: int = 8) -> list[Subnet]:
    rng = np.random.default_rng(1)
    extremes = [supernet.space.largest(), supernet.space.smallest()]
    return extremes + [sample(supernet.space, rng) for _ in range(count - len(extremes))]


def numbers(score: Score | None) -> Score:
    assert score is not None
    return replace(score, seconds=0.0)


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("batch_size", [7, 70, 256])
@torch.no_grad()
def test_the_score_is_that_of_the_merged_model(
    splits: Splits, batch_size: int, qkv_bias: bool, new_supernet: NewSupernet
) -> None:
    """Without a qkv bias, candidates with and without a gained one follow each other in the model."""
    supernet = new_supernet(qkv_bias)
    evaluator = CandidateEvaluator(supernet, splits.search, batch_size=batch_size)
    images, labels = splits.search.batch(slice(None))
    found = []
    for subnet in candidates(supernet):
        logits = supernet.merged(subnet)(images)
        result = evaluator.evaluate(subnet)
        assert result.total == 70
        assert result.correct == int((logits.argmax(-1) == labels).sum())
        assert result.accuracy == result.correct / 70
        assert result.cross_entropy == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
        assert result.seconds > 0
        found.append(result.cross_entropy)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_the_eager_model_holds_the_bits_of_the_merged_model(qkv_bias: bool, new_supernet: NewSupernet) -> None:
    """What is scored is what is exported, to the last bit; a bias that only others have gained is zero."""
    supernet = new_supernet(qkv_bias)
    model = EagerModel(supernet, "cpu")
    for subnet in candidates(supernet, 40):
        with torch.inference_mode():
            model.write(subnet)
        merged = supernet.merged(subnet).state_dict()
        found = model._model.state_dict()
        assert all(torch.equal(found.pop(name), value) for name, value in merged.items())
        assert all(name.endswith("qkv.bias") and not value.any() for name, value in found.items())


def test_the_order_of_candidates_does_not_matter(splits: Splits, new_supernet: NewSupernet) -> None:
    supernet = new_supernet()
    subnets = candidates(supernet, 4)
    alone = [numbers(CandidateEvaluator(supernet, splits.search).evaluate(subnet)) for subnet in subnets]
    evaluator = CandidateEvaluator(supernet, splits.search)
    for order in itertools.permutations(range(4)):
        for index in order:
            assert numbers(evaluator.evaluate(subnets[index])) == alone[index]


def test_evaluating_changes_neither_supernet_nor_backbone(splits: Splits, new_supernet: NewSupernet) -> None:
    supernet = new_supernet()
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    evaluator = CandidateEvaluator(supernet, splits.search)
    for subnet in candidates(supernet, 4):
        evaluator.evaluate(subnet)
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())
    assert all(parameter.grad is None for parameter in supernet.parameters())
    with supernet.activate(supernet.space.largest()):
        supernet(splits.search.batch(slice(0, 4))[0]).sum().backward()


def test_only_the_search_split_is_accepted(splits: Splits, new_supernet: NewSupernet) -> None:
    supernet = new_supernet()
    for split in (splits.test, splits.train, splits.train_and_search()):
        with pytest.raises(DataError, match=rf"scored on the search split only, got a {type(split).__name__}"):
            CandidateEvaluator(supernet, split)  # type: ignore[arg-type]


def test_the_report_reads_only_the_test_split(splits: Splits, new_supernet: NewSupernet) -> None:
    model = new_supernet().merged(new_supernet().space.smallest())
    with pytest.raises(DataError, match="test split only, got a SearchSplit"):
        accuracy_on_test(model, splits.search)  # type: ignore[arg-type]
    images, labels = splits.test.batch(slice(None))
    with torch.no_grad():
        expected = float((model(images).argmax(-1) == labels).double().mean())
    assert accuracy_on_test(model, splits.test, batch_size=32) == pytest.approx(expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_an_error_of_the_candidates_that_use_them(
    splits: Splits, value: float, new_supernet: NewSupernet
) -> None:
    supernet = new_supernet()
    clean = CandidateEvaluator(new_supernet(), splits.search)
    with torch.no_grad():
        supernet.adapter_parameters()["blocks.0.mlp.fc1.B.vector"].fill_(value)
    evaluator = CandidateEvaluator(supernet, splits.search)
    gene = ("blocks.0.mlp.fc1", "B")
    for subnet in candidates(supernet):
        for choice in ("vector", "lora:2"):
            candidate = subnet.replace({gene: choice})
            result = evaluator(EvaluationTask(candidate.to_json(), candidate.digest, "weights"))
            assert result.subnet_digest == candidate.digest
            if choice == "vector":
                assert result.failure == "the mean cross-entropy is nan"
            else:
                assert result.failure is None
                assert numbers(result.score) == numbers(clean.evaluate(candidate))


def test_what_is_wrong_with_a_task_is_told_in_its_result(splits: Splits, new_supernet: NewSupernet) -> None:
    supernet = new_supernet()
    evaluator = CandidateEvaluator(supernet, splits.search)
    good = supernet.space.largest()
    foreign = good.replace({("blocks.0.mlp.fc1", "B"): "lora:8"})
    result = evaluator(EvaluationTask(foreign.to_json(), foreign.digest, "weights"))
    assert result.subnet_digest == foreign.digest
    assert result.error is not None
    assert result.error.startswith("SearchSpaceError: search space tiny, gene blocks.0.mlp.fc1.B: 'lora:8' is not")
    broken = evaluator(EvaluationTask("{", "digest", "weights"))
    assert broken.error is not None
    assert "must be JSON" in broken.error
    assert evaluator(EvaluationTask(good.to_json(), good.digest, "weights")).error is None
    with pytest.raises(SearchSpaceError):
        evaluator.evaluate(foreign)


def test_a_task_is_evaluated_like_its_subnet(splits: Splits, new_supernet: NewSupernet) -> None:
    supernet = new_supernet()
    evaluator = CandidateEvaluator(supernet, splits.search)
    subnet = candidates(supernet)[3]
    by_task = evaluator(EvaluationTask(subnet.to_json(), subnet.digest, "weights"))
    assert numbers(by_task.score) == numbers(evaluator.evaluate(subnet))


def test_other_weights_than_those_held_are_refused(splits: Splits, new_supernet: NewSupernet) -> None:
    supernet = new_supernet()
    evaluator = CandidateEvaluator(supernet, splits.search, weights="a" * 64)
    subnet = supernet.space.largest()
    assert evaluator(EvaluationTask(subnet.to_json(), subnet.digest, "a" * 64)).error is None
    refused = evaluator(EvaluationTask(subnet.to_json(), subnet.digest, "b" * 64))
    assert refused.error == "asked for weights bbbbbbbbbbbb, this evaluator holds aaaaaaaaaaaa"


def test_a_programming_error_is_no_failed_candidate(splits: Splits, new_supernet: NewSupernet) -> None:
    """A model that cannot take these images fails for every candidate: the search must stop, not record failures."""
    supernet = new_supernet()
    supernet.model.patch_embed.proj = torch.nn.Conv2d(3, 24, 14)
    subnet = supernet.space.largest()
    with pytest.raises(RuntimeError, match="channels"):
        CandidateEvaluator(supernet, splits.search)(EvaluationTask(subnet.to_json(), subnet.digest, "weights"))
