"""Balanced accuracy, macro F1 and the area under the ROC curve as fitness: scikit-learn's, exact, and stopped early."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from glorasearch.data import Splits
from glorasearch.db import TrialStorage
from glorasearch.evaluation import CandidateEvaluator
from glorasearch.evaluation.class_metrics import BLOCK, area_under_curve
from glorasearch.search import InProcessExecutor, SearchConfig, SearchDriver, SearchOutcome
from glorasearch.space import CLASS_METRICS, EvaluationTask, Fitness, Score, Subnet, sample
from glorasearch.supernet import Supernet

NewSupernet = Callable[..., Supernet]


def candidates(supernet: Supernet, count: int) -> list[Subnet]:
    rng = np.random.default_rng(1)
    return [sample(supernet.space, rng) for _ in range(count)]


def metrics_of(score: Score) -> tuple[float | None, ...]:
    return tuple(getattr(score, name) for name in CLASS_METRICS)


def test_they_are_those_of_scikit_learn(splits: Splits, fitted: Supernet) -> None:
    evaluator = CandidateEvaluator(fitted, splits.search, batch_size=16, hardest_first=True)
    images, labels = splits.search.batch(slice(None))
    for subnet in candidates(fitted, 5):
        with torch.inference_mode():
            logits = fitted.merged(subnet)(images)
        outputs, taken = logits.double().softmax(-1).numpy(), logits.argmax(-1)
        expected = (
            balanced_accuracy_score(labels, taken),
            f1_score(labels, taken, average="macro", zero_division=0),
            roc_auc_score(labels, outputs, multi_class="ovr", average="macro"),
        )
        assert metrics_of(evaluator.evaluate(subnet, metrics=CLASS_METRICS)) == pytest.approx(expected, abs=1e-12)
        assert metrics_of(evaluator.evaluate(subnet)) == (None, None, None)


@pytest.mark.parametrize("block", [BLOCK, 70, 1])
def test_the_area_counts_equal_outputs_half_and_leaves_out_classes_without_images(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glorasearch.evaluation.class_metrics.BLOCK", block)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    logits = rng.integers(-2, 3, (60, 5)).astype(np.float32)
    outputs = torch.from_numpy(logits).double().softmax(-1).numpy()
    expected = np.mean([roc_auc_score(labels == one, outputs[:, one]) for one in range(4)])
    assert area_under_curve(torch.from_numpy(logits), torch.from_numpy(labels)) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(area_under_curve(torch.zeros(3, 2), torch.ones(3, dtype=torch.int64)))


def test_they_do_not_depend_on_order_and_chunks(splits: Splits, new_supernet: NewSupernet) -> None:
    supernet = new_supernet()
    found = [
        [metrics_of(evaluator.evaluate(subnet, metrics=CLASS_METRICS)) for subnet in candidates(supernet, 6)]
        for hardest in (False, True)
        for size in (10, 16, 70)
        for evaluator in [CandidateEvaluator(supernet, splits.search, batch_size=size, hardest_first=hardest)]
    ]
    assert all(other == found[0] for other in found)


def test_a_split_of_one_class_has_no_area(splits: Splits, new_supernet: NewSupernet) -> None:
    supernet = new_supernet()
    alike = copy(splits.search)
    alike.labels = torch.zeros(70, dtype=torch.int64)
    subnet = candidates(supernet, 1)[0]
    result = CandidateEvaluator(supernet, alike)(EvaluationTask(subnet.to_json(), subnet.digest, "w", None, ("auc",)))
    assert result.failure is not None
    assert "all images of the search split have one label" in result.failure


@pytest.mark.parametrize("fitness", CLASS_METRICS)
def test_a_search_breeds_the_same_parents_and_ends_with_the_same_winner(
    splits: Splits, fitted: Supernet, fitness: Fitness, tmp_path: Path
) -> None:
    def search(early_stopping: bool) -> tuple[SearchOutcome, list[Any]]:
        evaluator = CandidateEvaluator(fitted, splits.search, batch_size=5, hardest_first=True)
        config = SearchConfig(trials=100, population=20, parents=5, fitness=fitness, early_stopping=early_stopping)
        storage = TrialStorage(f"sqlite:///{tmp_path}/{early_stopping}.db")
        outcome = SearchDriver(fitted.space, storage, InProcessExecutor(evaluator), "w", "study", config).run()
        study = storage.get_study_id_from_name("study")
        assert storage.get_study_directions(study) == [StudyDirection.MAXIMIZE]
        return outcome, storage.get_all_trials(study)

    (expected, plain), (found, trials) = search(False), search(True)
    assert [trial.params for trial in trials] == [trial.params for trial in plain]
    assert (found.best.number, found.subnet) == (expected.best.number, expected.subnet)
    values = [getattr(expected.best.score, fitness)]
    for trial, other in zip(trials, plain, strict=True):
        assert other.values == [other.user_attrs[fitness]]
        values += other.values
        if trial.state == TrialState.COMPLETE:
            assert (trial.values, trial.user_attrs[fitness]) == (other.values, other.user_attrs[fitness])
        else:
            assert f"seen_{fitness}" in trial.user_attrs
            assert other.values[0] <= trial.user_attrs["bound"] < values[0]
    assert values[0] == max(values)
    assert found.stopped_early == 0 if fitness == "auc" else found.stopped_early > 10
    best_first = sorted(expected.pareto, key=lambda record: -record.parameters)
    assert [getattr(record.score, fitness) for record in best_first] == sorted(
        (getattr(record.score, fitness) for record in best_first), reverse=True
    )
    assert getattr(best_first[0].score, fitness) == values[0]
