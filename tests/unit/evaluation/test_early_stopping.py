"""An evaluation stops early once its candidate is certain to be worse, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from optuna.trial import TrialState
from torch import Tensor

from glorasearch.data import Splits
from glorasearch.db import TrialStorage
from glorasearch.evaluation import CandidateEvaluator
from glorasearch.evaluation.eager_model import EagerModel
from glorasearch.evaluation.scoring import Chunks, PendingSums, device_sums, hardest_first, natural_order
from glorasearch.search import InProcessExecutor, SearchConfig, SearchDriver, SearchOutcome
from glorasearch.space import FITNESSES, EvaluationResult, EvaluationTask, Fitness, Score, StopThreshold, Subnet, sample
from glorasearch.supernet import Supernet

NewSupernet = Callable[..., Supernet]


def candidates(supernet: Supernet, count: int) -> list[Subnet]:
    rng = np.random.default_rng(1)
    return [sample(supernet.space, rng) for _ in range(count)]


def scores(result: Score) -> tuple[float | None, ...]:
    return result.correct, result.cross_entropy, result.tempered, result.beta, result.bound


@torch.inference_mode()
def logits_of(supernet: Supernet, subnet: Subnet, splits: Splits) -> tuple[Tensor, Tensor]:
    images, labels = splits.search.batch(slice(None))
    logits: Tensor = supernet.merged(subnet)(images)
    return logits, labels


@pytest.mark.parametrize("batch_size", [1, 8, 16, 35])
def test_chunks_hold_every_image_once_and_the_last_is_filled_up(splits: Splits, batch_size: int) -> None:
    order = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    chunks = Chunks(splits.search, batch_size, order, torch.device("cpu"))
    found = list(chunks)
    even = -(-70 // -(-70 // batch_size))
    assert {tuple(images.shape) for images in found} == {(even, 1, 14, 14)}
    expected, labels = splits.search.batch(order)
    assert torch.equal(torch.cat(found)[:70], expected)
    assert torch.equal(chunks.labels, labels)
    assert all(torch.equal(image, expected[-1]) for image in torch.cat(found)[70:])
    chunks._kept = None
    assert all(torch.equal(one, other) for one, other in zip(chunks, found, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_scores_do_not_depend_on_order_and_chunks(splits: Splits, new_supernet: NewSupernet, threads: int) -> None:
    """Sums are exact, and on this machine an image's logits do not depend on what stands beside it in a chunk."""
    supernet = new_supernet()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = [
            [scores(evaluator.evaluate(subnet)) for subnet in candidates(supernet, 6)]
            for hardest in (False, True)
            for size in (10, 16, 35, 70)
            for evaluator in [CandidateEvaluator(supernet, splits.search, batch_size=size, hardest_first=hardest)]
        ]
    finally:
        torch.set_num_threads(before)
    assert all(other == found[0] for other in found)


@pytest.mark.parametrize("fitness", FITNESSES)
@pytest.mark.parametrize("hardest", [False, True])
def test_a_threshold_stops_exactly_those_that_are_worse(
    splits: Splits, fitted: Supernet, fitness: Fitness, hardest: bool
) -> None:
    evaluator = CandidateEvaluator(fitted, splits.search, batch_size=2, hardest_first=hardest)
    subnets = candidates(fitted, 12)
    full = [evaluator.evaluate(subnet) for subnet in subnets]
    sign = -1 if fitness == "accuracy" else 1
    values = [sign * getattr(result, fitness) for result in full]
    assert len(set(values)) > 3
    stopped = 0
    for value in sorted(values)[:5]:
        threshold = StopThreshold(fitness, sign * value)
        for subnet, expected, score in zip(subnets, full, values, strict=True):
            answer = evaluator(EvaluationTask(subnet.to_json(), subnet.digest, "weights", threshold))
            assert answer.failure is None
            result = answer.score
            assert result is not None
            assert result.total == 70
            if not result.stopped_early:
                assert scores(result) == scores(expected)
                assert result.seen == 70
                continue
            stopped += 1
            assert score > value
            assert result.bound is not None
            assert value < sign * result.bound <= score
            assert 0 < result.seen < 70
    assert stopped > 10


def test_the_score_of_an_evaluation_that_stopped_early_speaks_of_the_images_that_were_seen(
    splits: Splits, new_supernet: NewSupernet
) -> None:
    supernet = new_supernet()
    subnet = candidates(supernet, 1)[0]
    logits, labels = logits_of(supernet, subnet, splits)
    evaluator = CandidateEvaluator(supernet, splits.search, batch_size=14)
    for seen in (14, 28, 42, 56):
        nats = float(F.cross_entropy(logits[:seen], labels[:seen], reduction="sum"))
        result = evaluator.evaluate(subnet, StopThreshold("cross_entropy", nats / 70 - 1e-3))
        assert (result.seen, result.total) == (seen, 70)
        assert result.bound == pytest.approx(nats / 70, rel=1e-5)
        assert result.cross_entropy == pytest.approx(nats / seen, rel=1e-5)
        assert result.correct == int((logits[:seen].argmax(-1) == labels[:seen]).sum())
        assert result.accuracy == result.correct / seen
    assert not evaluator.evaluate(subnet, StopThreshold("cross_entropy", nats / 70 + 10)).stopped_early


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("fitness", FITNESSES)
def test_scores_that_are_not_finite_are_an_error_and_never_stop_an_evaluation(
    splits: Splits, new_supernet: NewSupernet, value: float, fitness: Fitness
) -> None:
    supernet = new_supernet()
    with torch.no_grad():
        supernet.adapter_parameters()["blocks.0.mlp.fc1.B.vector"].fill_(value)
    evaluator = CandidateEvaluator(supernet, splits.search, batch_size=16, hardest_first=True)
    subnet = candidates(supernet, 1)[0].replace({("blocks.0.mlp.fc1", "B"): "vector"})
    threshold = StopThreshold(fitness, 1.0 if fitness == "accuracy" else 0.0)
    result = evaluator(EvaluationTask(subnet.to_json(), subnet.digest, "weights", threshold))
    assert result.score is not None
    assert (result.failure, result.score.stopped_early) == ("the mean cross-entropy is nan", False)
    assert evaluator.evaluate(subnet.replace({("blocks.0.mlp.fc1", "B"): "none"}), threshold).stopped_early


def test_an_infinite_cross_entropy_is_told(splits: Splits) -> None:
    logits = torch.tensor([[0.0, float("-inf")], [0.0, 1.0]])
    found = PendingSums(device_sums(logits, torch.tensor([1, 1]))).wait()
    assert (found.correct, set(found.nats), found.finite) == (1, {float("inf")}, False)


def test_the_order_is_a_function_of_the_weights_and_the_split(splits: Splits, new_supernet: NewSupernet) -> None:
    def order(size: int, std: float = 0.2) -> list[int]:
        supernet = new_supernet(std=std).eval()
        model = EagerModel(supernet, "cpu")
        with torch.inference_mode():
            model.write(candidates(supernet, 3)[-1])
            return hardest_first(model, supernet.space, splits.search, size).tolist()

    found = order(16)
    assert sorted(found) == list(range(70))
    assert found == order(16) == order(70)
    assert found != order(16, std=0.3)
    assert found != natural_order(splits.search).tolist()


def test_hard_images_come_first(splits: Splits, fitted: Supernet) -> None:
    evaluator = CandidateEvaluator(fitted, splits.search, batch_size=10, hardest_first=True)
    halves = []
    for subnet in candidates(fitted, 10):
        first = evaluator.evaluate(subnet, StopThreshold("cross_entropy", 0.0))
        halves.append(first.cross_entropy / evaluator.evaluate(subnet).cross_entropy)
        assert first.seen == 10
    assert np.mean(halves) > 1.2


@pytest.mark.parametrize("fitness", FITNESSES)
def test_a_search_breeds_the_same_parents_and_ends_with_the_same_winner(
    splits: Splits, fitted: Supernet, fitness: Fitness, tmp_path: Path
) -> None:
    def search(early_stopping: bool) -> tuple[SearchOutcome, list[Any], list[tuple[int, int, float]]]:
        forwarded: list[tuple[int, int, float]] = []
        evaluator = CandidateEvaluator(fitted, splits.search, batch_size=5, hardest_first=True)

        def evaluate(task: EvaluationTask) -> EvaluationResult:
            result = evaluator(task)
            assert result.score is not None
            forwarded.append((result.score.seen, result.score.correct, result.score.cross_entropy))
            return result

        config = SearchConfig(trials=160, population=20, parents=5, fitness=fitness, early_stopping=early_stopping)
        storage = TrialStorage(f"sqlite:///{tmp_path}/{early_stopping}.db")
        outcome = SearchDriver(fitted.space, storage, InProcessExecutor(evaluate), "w", "study", config).run()
        return outcome, storage.get_all_trials(storage.get_study_id_from_name("study")), forwarded

    (expected, plain, all_images), (found, trials, images) = search(False), search(True)
    assert [trial.params for trial in trials] == [trial.params for trial in plain]
    assert (found.best.number, found.subnet) == (expected.best.number, expected.subnet)
    assert scores(found.best.score) == scores(expected.best.score)
    for trial, other in zip(trials, plain, strict=True):
        if trial.state == TrialState.COMPLETE:
            assert trial.values == other.values
            for name in ("accuracy", "cross_entropy", "tempered", "temperature"):
                assert trial.user_attrs[name] == other.user_attrs[name]
    assert found.stopped_early > 20
    assert sum(seen for seen, *_ in all_images) == 70 * len(all_images)
    assert found.images_share == sum(seen for seen, *_ in images) / (70 * len(images)) < 0.98
