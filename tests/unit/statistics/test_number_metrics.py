"""Metrics of numbers against scikit-learn's, and two models on the same images against SciPy's paired test."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn import metrics as sk

from glorasearch.statistics import NUMBER_METRICS, PairedErrors, by_target, measure_numbers

Array = npt.NDArray[Any]


def draw(images: int, targets: int, seed: int) -> tuple[Array, Array]:
    """Predictions and targets, each of another scale, far from 0."""
    rng = np.random.default_rng(seed)
    wanted = (1_000 + rng.standard_normal((images, targets))) * 10.0 ** np.arange(targets)
    return wanted + 0.5 * rng.standard_normal((images, targets)) * 10.0 ** np.arange(targets), wanted


@pytest.mark.parametrize("targets", [1, 3])
def test_they_are_those_of_scikit_learn(targets: int) -> None:
    predicted, wanted = draw(80, targets, 3)
    found = {name: one.value for name, one in measure_numbers(predicted, wanted, resamples=0).items()}
    expected = {
        "r2": sk.r2_score(wanted, predicted),
        "mae": sk.mean_absolute_error(wanted, predicted),
        "rmse": sk.root_mean_squared_error(wanted, predicted),
    }
    assert list(found) == list(NUMBER_METRICS)
    assert found == pytest.approx(expected, rel=1e-9)
    for place, one in enumerate(by_target(predicted, wanted)):
        assert one["r2"] == pytest.approx(sk.r2_score(wanted[:, place], predicted[:, place]), rel=1e-9)
        assert one["rmse"] == pytest.approx(sk.root_mean_squared_error(wanted[:, place], predicted[:, place]))


def test_intervals_are_of_resampled_images() -> None:
    predicted, wanted = draw(60, 2, 5)
    found = measure_numbers(predicted, wanted, resamples=400, seed=1)
    for name, one in found.items():
        assert one.interval is not None
        assert one.value is not None
        low, high = one.interval
        assert low < one.value < high, name
        assert one.resamples == 400
    rng, drawn = np.random.default_rng(2), []
    for _ in range(400):
        rows = rng.integers(60, size=60)
        drawn.append(sk.r2_score(wanted[rows], predicted[rows]))
    assert np.ptp(found["r2"].interval or ()) == pytest.approx(np.ptp(np.percentile(drawn, (2.5, 97.5))), rel=0.3)


def test_worse_than_the_mean_is_below_zero() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.standard_normal((40, 1))
    found = measure_numbers(-3 * wanted, wanted, ["r2"], resamples=100)["r2"]
    assert found.value == pytest.approx(sk.r2_score(wanted, -3 * wanted))
    assert found.interval is not None
    assert found.interval[0] < -10


def test_a_target_that_does_not_vary_has_no_share_of_variance() -> None:
    predicted, wanted = draw(20, 2, 1)
    wanted[:, 0] = 7.0
    assert by_target(predicted, wanted)[0]["r2"] is None
    both = measure_numbers(predicted, wanted, ["r2"], resamples=0)["r2"].value
    assert both == pytest.approx(sk.r2_score(wanted[:, 1], predicted[:, 1]))
    predicted[3, 1] = np.inf
    assert measure_numbers(predicted, wanted, resamples=0)["mae"].value is None


def test_paired_errors_are_students_test() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.random((2, 30))
    found = PairedErrors.of(first.tolist(), second.tolist())
    expected = stats.ttest_rel(first, second)
    low, high = expected.confidence_interval()
    assert (found.images, found.difference) == (30, pytest.approx((first - second).mean()))
    assert (found.p, *found.interval) == pytest.approx((expected.pvalue, low, high), rel=1e-6)
    same = PairedErrors.of(first.tolist(), first.tolist())
    assert (same.difference, same.p) == (0.0, 1.0)
