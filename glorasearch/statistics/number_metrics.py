"""Metrics of predicted numbers: those of `[report] metrics` with targets of a regression.

- `r2`: the coefficient of determination, 1 - (sum of squared errors) / (sum of squared deviations from the mean): 1 is
  perfect, 0 what the mean of these images would have.
- `mae`: the mean absolute error, in the unit of the target.
- `rmse`: the root of the mean squared error, likewise.

With several targets an image each is the mean over the targets; a target that all images have alike has no `r2`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from glorasearch.statistics.bootstrap import Floats, Statistic
from glorasearch.statistics.metrics import NUMBER_METRICS, Estimate, Metric, estimates, mean_ratio


def measure_numbers(
    predicted: npt.NDArray[np.floating],
    targets: npt.NDArray[np.floating],
    metrics: Iterable[Metric] = NUMBER_METRICS,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The metrics of predictions and targets `(N, targets)`; with 0 resamples none has an interval.

    Raises:
        ValueError: if there is no image.
    """
    if not len(targets):
        raise ValueError("metrics need images")
    asked, (images, outputs) = set(metrics), targets.shape
    found: dict[str, Statistic] = {
        name: _statistic(name, predicted, targets) for name in NUMBER_METRICS if name in asked
    }
    return estimates(found, images, outputs, resamples, seed)


def by_target(predicted: npt.NDArray[np.floating], targets: npt.NDArray[np.floating]) -> list[dict[str, float | None]]:
    """The metrics of each target; None where there is none."""
    return [
        {
            name: one.value
            for name, one in measure_numbers(predicted[:, [place]], targets[:, [place]], resamples=0).items()
        }
        for place in range(targets.shape[1])
    ]


def _statistic(name: Metric, predicted: npt.NDArray[np.floating], targets: npt.NDArray[np.floating]) -> Statistic:
    errors: Floats = (predicted.astype(np.float64) - targets).T
    if not np.isfinite(errors).all():
        return lambda counts: np.full(counts.shape[1], np.nan)
    if name == "mae":
        absolute: Floats = np.abs(errors).mean(0)
        return lambda counts: absolute @ counts / len(absolute)
    squares: Floats = errors**2
    if name == "rmse":
        return lambda counts: np.sqrt(squares @ counts / squares.shape[1]).mean(0)
    centred: Floats = (targets - targets.mean(0, dtype=np.float64)).T

    def determination(counts: Floats) -> Floats:
        sums, images = centred @ counts, counts.sum(0)
        deviations = np.maximum((centred**2) @ counts - sums**2 / images, 0.0)
        return 1 - mean_ratio(squares @ counts, np.where(np.ptp(targets, axis=0)[:, None] > 0, deviations, 0.0))

    return determination
