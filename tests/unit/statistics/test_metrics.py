"""Metrics and their intervals against scikit-learn's, resample by resample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from glorasearch.statistics import METRICS, Metric, measure
from glorasearch.statistics import metrics as module
from glorasearch.statistics.bootstrap import resampled

Arrays = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]


def drawn(images: int, classes: int, seed: int = 0) -> Arrays:
    """Logits that know something, with ties; class 1 has no image, the last is never predicted; unequal classes."""
    rng = np.random.default_rng(seed)
    weights = np.linspace(1, 4, classes) * (np.arange(classes) != 1)
    labels = rng.choice(classes, size=images, p=weights / weights.sum())
    labels[0] = classes - 1
    pool = rng.normal(scale=2, size=(classes, images // 8, classes)).astype(np.float32)  # of which some are drawn twice
    pool[np.arange(classes), :, np.arange(classes)] += 2
    pool[..., 0] = pool[..., 1]
    pool[..., -1] -= 20
    logits = pool[labels, rng.integers(images // 8, size=images)]
    return logits, logits.argmax(1), labels


def probabilities(logits: npt.NDArray[np.float32], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) / temperature)
    found: npt.NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return found


def calibration_error(shares: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    """From scikit-learn's reliability curve, whose bins are weighted by their images here."""
    confidence, right = shares.max(1), shares.argmax(1) == labels
    accuracies, confidences = calibration_curve(right, confidence, n_bins=15)
    places = np.searchsorted(np.linspace(0, 1, 16)[1:-1], confidence)
    weights = np.bincount(places, minlength=15) / len(labels)
    return float((weights[weights > 0] * np.abs(accuracies - confidences)).sum())


def expected(name: str, arrays: Arrays) -> float:
    """What scikit-learn says."""
    logits, predicted, labels = arrays
    shares, classes = probabilities(logits, 2.5 if name.endswith("tempered") else 1.0), np.arange(logits.shape[1])
    if name == "top1":
        return float(oracle.accuracy_score(labels, predicted))
    if name == "top5":  # of equal logits the first classes, which scikit-learn leaves open
        ranks = np.argsort(np.argsort(-logits, axis=1, kind="stable"), axis=1)
        return float(oracle.top_k_accuracy_score(labels, -ranks, k=5, labels=classes))
    if name == "balanced_accuracy":
        return float(oracle.balanced_accuracy_score(labels, predicted))
    if name == "macro_f1":
        return float(oracle.f1_score(labels, predicted, average="macro", zero_division=0))
    if name == "auc":
        return float(np.mean([oracle.roc_auc_score(labels == label, shares[:, label]) for label in np.unique(labels)]))
    if name.startswith("log_loss"):
        return float(oracle.log_loss(labels, shares, labels=classes))
    return calibration_error(shares, labels)


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_values_are_those_of_scikit_learn(classes: int) -> None:
    arrays = drawn(300, classes) if classes > 2 else drawn(300, 3)
    if classes == 2:
        logits = arrays[0][:, 1:]
        arrays = logits, logits.argmax(1), arrays[2] // 2
    found = measure(*arrays, resamples=0, temperature=2.5)
    names = [name for name in METRICS if name != "top5" or classes > 5]
    tempered = ["log_loss_tempered", "calibration_error_tempered"]
    assert list(found) == [*names[:-1], tempered[0], names[-1], tempered[1]]
    for name, estimate in found.items():
        assert estimate.value == pytest.approx(expected(name, arrays), abs=1e-12), name
        assert (estimate.interval is not None) == (name in ("top1", "top5")), name


def test_two_classes_have_the_area_of_either() -> None:
    logits, _, labels = drawn(200, 3)
    logits, labels = logits[:, 1:], labels // 2
    found = measure(logits, logits.argmax(1), labels, ["auc"], resamples=0)["auc"].value
    assert found == pytest.approx(oracle.roc_auc_score(labels, probabilities(logits)[:, 1]))


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1", "auc", "log_loss", "calibration_error"])
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_intervals_are_those_of_resampled_images(name: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glorasearch.statistics.bootstrap.MOST_COUNTS", 60 * 7)  # blocks of 7, and a last one
    arrays = drawn(60, 4)
    estimate = measure(*arrays, [name], resamples=40, seed=3)[name]
    rng, values = np.random.default_rng(3), []
    for _ in range(40):
        chosen = rng.integers(60, size=60)
        values.append(expected(name, (arrays[0][chosen], arrays[1][chosen], arrays[2][chosen])))
    shift = expected(name, arrays) - np.mean(values)
    low, high = np.percentile(values, [2.5, 97.5]) + shift
    assert estimate.interval == pytest.approx((max(0, low), high if name == "log_loss" else min(1, high)), abs=1e-12)
    assert estimate.resamples == 40


def test_a_sample_is_the_same_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate([counts for _, counts in resampled(9, 10, 5)], axis=1)
    assert (whole.shape, set(whole.sum(0))) == ((9, 10), {9.0})
    monkeypatch.setattr("glorasearch.statistics.bootstrap.MOST_COUNTS", 1)
    assert np.array_equal(np.concatenate([counts for _, counts in resampled(9, 10, 5)], axis=1), whole)


def test_intervals_cover_as_often_as_they_say() -> None:
    """Of models whose metrics are known from 200,000 images, by 120 samples of 250."""
    logits, predicted, labels = drawn(200_000, 4, seed=1)
    names: list[Metric] = ["balanced_accuracy", "macro_f1", "log_loss", "auc"]
    truth = {name: one.value for name, one in measure(logits, predicted, labels, names, resamples=0).items()}
    rng, covered = np.random.default_rng(0), dict.fromkeys(names, 0)
    for sample in range(120):
        chosen = rng.integers(len(labels), size=250)
        found = measure(logits[chosen], predicted[chosen], labels[chosen], names, resamples=200, seed=sample)
        for name in names:
            interval, known = found[name].interval, truth[name]
            assert interval is not None
            assert known is not None
            covered[name] += interval[0] <= known <= interval[1]
    assert all(105 <= number <= 120 for number in covered.values()), covered


def test_what_does_not_exist_has_no_value() -> None:
    logits, predicted, _ = drawn(20, 3)
    of_one = measure(logits, predicted, np.full(20, 2), resamples=20)
    assert (of_one["auc"].value, of_one["auc"].interval, of_one["auc"].resamples) == (None, None, 0)
    perfect = measure(np.eye(3, dtype=np.float32) * 9, np.arange(3), np.arange(3), resamples=20)
    assert (perfect["balanced_accuracy"].value, perfect["balanced_accuracy"].interval) == (1.0, None)
    interval = perfect["top1"].interval
    assert interval is not None
    assert interval[0] < 0.5
    logits[3] = np.nan
    broken = measure(logits, predicted, predicted, ["top1", "log_loss", "auc", "calibration_error"], temperature=2.0)
    assert {name for name, estimate in broken.items() if estimate.value is None} == set(broken) - {"top1"}
    with pytest.raises(ValueError, match="metrics need images"):
        measure(np.zeros((0, 3), np.float32), np.zeros(0, int), np.zeros(0, int))


def test_areas_of_many_images_and_classes_have_fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AUC_WORK", 60 * 4 * 110)
    arrays = drawn(60, 4)
    found = measure(*arrays, ["auc", "log_loss"], resamples=300)
    assert {name: one.resamples for name, one in found.items()} == {"auc": 110, "log_loss": 300}
    assert measure(*arrays, ["auc"], resamples=110)["auc"] == found["auc"]
