"""Sums over folds are scores over all images, with one temperature for a candidate."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from glorasearch.race import FoldScore, standing

BETAS = tuple(2.0 ** (power / 4) for power in range(-8, 9))


def scored(logits: np.ndarray, labels: np.ndarray) -> FoldScore:
    """By the definition."""
    nats = []
    for beta in BETAS:
        z = beta * logits
        nats.append(float(sum(math.log(np.exp(row).sum()) - row[y] for row, y in zip(z, labels, strict=True))))
    return FoldScore(len(labels), int((logits.argmax(1) == labels).sum()), tuple(nats))


def test_folds_add_up_to_the_score_over_all_images() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=30)
    logits = 6 * rng.normal(size=(30, 3)) + 4 * np.eye(3)[labels]
    parts = [scored(logits[fold::5], labels[fold::5]) for fold in range(5)]
    found, whole = standing(parts, BETAS), scored(logits, labels)
    assert (found.folds, found.images, found.correct) == (5, 30, whole.correct)
    assert found.accuracy == whole.correct / 30
    assert whole.nats is not None
    assert found.tempered == pytest.approx(min(whole.nats) / 30, rel=1e-12)
    assert found.beta == BETAS[int(np.argmin(whole.nats))]
    assert found.beta < 1  # the logits are far too sure of themselves


def test_one_diverged_training_spoils_the_temperature_and_costs_its_images() -> None:
    good, bad = FoldScore(10, 8, (9.0, 7.0)), FoldScore(10, 0, None)
    found = standing([good, bad], (0.5, 1.0))
    assert (found.accuracy, found.tempered, found.beta) == (0.4, None, None)


def test_no_scores_are_no_accuracy() -> None:
    assert standing([], BETAS).accuracy == 0.0


def counted(predicted: np.ndarray, labels: np.ndarray, auc: float | None = None) -> FoldScore:
    right = predicted == labels
    rows = (labels, predicted, labels[right])
    classes = tuple(tuple(np.bincount(row, minlength=3).tolist()) for row in rows)
    return FoldScore(len(labels), int(right.sum()), (1.0,) * len(BETAS), classes, auc)


def test_metrics_that_take_classes_alike_are_of_all_folds_together() -> None:
    rng = np.random.default_rng(1)
    labels, predicted = rng.choice(3, p=(0.7, 0.2, 0.1), size=60), rng.integers(3, size=60)
    parts = [counted(predicted[fold::4], labels[fold::4], auc) for fold, auc in enumerate((0.5, 0.75, None, 1.0))]
    expected = {
        "macro_f1": sk.f1_score(labels, predicted, average="macro"),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "auc": 0.75,
    }
    for judge, value in expected.items():
        assert standing(parts, BETAS, judge).judged == pytest.approx(value)  # type: ignore[arg-type]
    assert standing(parts, BETAS).judged is None
    assert standing([*parts, FoldScore(15, 0, None)], BETAS, "macro_f1").judged is None
