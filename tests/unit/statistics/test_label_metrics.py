"""Metrics of images with several labels, against scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics as sk

from glorasearch.statistics import LABEL_METRICS, label_curves, measure_labels

Array = npt.NDArray[Any]


def draw(images: int, labels: int, seed: int, *, ties: bool = False) -> tuple[Array, Array]:
    """Logits that lean to the targets, and targets, some labels rare."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, labels)) < np.linspace(0.1, 0.7, labels)).astype(np.float32)
    logits = 1.5 * rng.standard_normal((images, labels)) + 2 * targets - 1
    return (np.round(logits) if ties else logits).astype(np.float32), targets


@pytest.mark.parametrize(("labels", "ties"), [(1, False), (4, False), (7, True)])
def test_they_are_those_of_scikit_learn(labels: int, ties: bool) -> None:
    logits, targets = draw(150, labels, 3, ties=ties)
    said, shares = logits > 0, 1 / (1 + np.exp(-logits.astype(np.float64)))
    found = {name: one.value for name, one in measure_labels(logits, targets, resamples=0).items()}
    expected = {
        "subset_accuracy": sk.accuracy_score(targets, said),
        "map": sk.average_precision_score(targets, logits, average="macro"),
        "macro_f1": sk.f1_score(targets.ravel() if labels == 1 else targets, said.ravel() if labels == 1 else said)
        if labels == 1
        else sk.f1_score(targets, said, average="macro"),
        "micro_f1": sk.f1_score(targets.ravel(), said.ravel()),
        "auc": sk.roc_auc_score(targets, logits, average="macro"),
        "log_loss": sk.log_loss(targets.ravel(), shares.ravel()),
    }
    assert list(found) == list(LABEL_METRICS)
    assert found == pytest.approx(expected, abs=1e-9)
    areas, precisions = zip(*label_curves(logits, targets), strict=True)
    assert areas == pytest.approx([sk.roc_auc_score(targets[:, n], logits[:, n]) for n in range(labels)])
    assert precisions == pytest.approx([sk.average_precision_score(targets[:, n], logits[:, n]) for n in range(labels)])


def test_resamples_are_weights_of_images() -> None:
    logits, targets = draw(60, 3, 5, ties=True)
    found = measure_labels(logits, targets, ["map", "auc", "macro_f1", "log_loss"], resamples=200, seed=1)
    for name, one in found.items():
        assert one.value is not None, name
        assert one.interval is not None, name
        assert one.interval[0] < one.value < one.interval[1], name
    from glorasearch.statistics.bootstrap import resampled
    from glorasearch.statistics.label_metrics import _mean_precision

    ((_, counts),) = resampled(60, 5, 1)
    values = _mean_precision(logits, targets > 0)(counts)
    each = [sk.average_precision_score(targets, logits, sample_weight=counts[:, n]) for n in range(5)]
    assert values == pytest.approx(each)


def test_labels_without_a_curve_do_not_count() -> None:
    logits, targets = draw(50, 3, 7)
    targets[:, 0], targets[:, 1] = 0, 1
    found = measure_labels(logits, targets, ["map", "auc", "macro_f1"], resamples=0)
    third = sk.average_precision_score(targets[:, 2], logits[:, 2])
    assert found["auc"].value == pytest.approx(sk.roc_auc_score(targets[:, 2], logits[:, 2]))
    assert found["map"].value == pytest.approx((1 + third) / 2)
    assert label_curves(logits, targets)[0] == (None, None)
    targets[:, 2] = 0
    assert measure_labels(logits, targets, ["auc"])["auc"].value is None
    logits[0, 0] = np.nan
    assert measure_labels(logits, targets, ["map", "auc"], resamples=0)["map"].value is None
    with pytest.raises(ValueError, match="need images"):
        measure_labels(logits[:0], targets[:0])


def test_a_temperature_is_of_the_log_loss() -> None:
    logits, targets = draw(80, 2, 9)
    found = measure_labels(logits, targets, ["log_loss"], resamples=0, temperature=2.0)
    assert found["log_loss_tempered"].value == measure_labels(logits / 2, targets, ["log_loss"])["log_loss"].value
