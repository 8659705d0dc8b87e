"""Metrics of predictions of any number of labels an image: those of `[report] metrics` with multi-label data.

- `subset_accuracy`: the share of images of which every label is right, those above one half being said.
- `map`: the mean over labels of the average precision.
- `macro_f1`: the mean over labels of the F1 score; a label counts if an image has it or is said to.
- `micro_f1`: the F1 score of all pairs of an image and a label.
- `auc`: the mean over labels of the area under the ROC curve of images with the label against those without.
- `log_loss`: the mean binary cross-entropy of an image and a label, nats.

Labels that no image has, or for the area every image, have no curve and count in neither mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from glorasearch.statistics.bootstrap import Floats, Statistic
from glorasearch.statistics.metrics import (
    LABEL_METRICS,
    TEMPERED,
    Curve,
    Estimate,
    Metric,
    estimates,
    mean_of,
    mean_ratio,
    share,
)


def measure_labels(
    logits: npt.NDArray[np.floating],
    targets: npt.NDArray[np.floating],
    metrics: Iterable[Metric] = LABEL_METRICS,
    *,
    resamples: int = 1000,
    seed: int = 0,
    temperature: float | None = None,
) -> dict[str, Estimate]:
    """The metrics of logits `(N, labels)` and targets `(N, labels)`, 1 where an image has a label and else 0.

    `log_loss` is also of logits divided by a `temperature` if there is one, as `log_loss_tempered`. With 0 resamples
    only `subset_accuracy` has an interval.

    Raises:
        ValueError: if there is no image.
    """
    if not len(targets):
        raise ValueError("metrics need images")
    own, said, asked = targets > 0, logits > 0, set(metrics)
    found: dict[str, Estimate] = {}
    statistics: dict[str, Statistic] = {}
    for name in LABEL_METRICS:
        if name not in asked:
            continue
        if name == "subset_accuracy":
            found[name] = share((own == said).all(1))
        else:
            statistics |= _statistics(name, logits, own, said, temperature)
    images, labels = targets.shape
    return found | estimates(statistics, images, labels, resamples, seed)


def label_curves(
    logits: npt.NDArray[np.floating], targets: npt.NDArray[np.floating]
) -> list[tuple[float | None, float | None]]:
    """Of each label the area under its ROC curve and its average precision; None where there is none."""
    each, own = np.ones((len(logits), 1)), targets > 0

    def value(statistic: Statistic) -> float | None:
        found = float(statistic(each)[0])
        return found if math.isfinite(found) else None

    return [
        (value(_auc(logits[:, label : label + 1], mine)), value(_mean_precision(logits[:, label : label + 1], mine)))
        for label in range(own.shape[1])
        for mine in [own[:, label : label + 1]]
    ]


def _statistics(
    name: Metric,
    logits: npt.NDArray[np.floating],
    own: npt.NDArray[np.bool_],
    said: npt.NDArray[np.bool_],
    temperature: float | None,
) -> dict[str, Statistic]:
    if name in ("macro_f1", "micro_f1"):
        return {name: _f1(own, said, together=name == "micro_f1")}
    if name == "auc":
        return {name: _auc(logits, own)}
    if name == "map":
        return {name: _mean_precision(logits, own)}
    found: dict[str, Statistic] = {name: mean_of(_binary_cross_entropy(logits, own))}
    if temperature is not None:
        found[TEMPERED.format(name)] = mean_of(_binary_cross_entropy(logits.astype(np.float64) / temperature, own))
    return found


def _binary_cross_entropy(logits: npt.NDArray[np.floating], own: npt.NDArray[np.bool_]) -> Floats:
    """`(N,)`: the mean over the labels."""
    wrong = np.where(own, -logits.astype(np.float64), logits)
    losses: Floats = np.logaddexp(0, wrong).mean(1)
    return losses


def _f1(own: npt.NDArray[np.bool_], said: npt.NDArray[np.bool_], *, together: bool) -> Statistic:
    hits, both = 2.0 * (own & said).T, own.T.astype(np.float64) + said.T
    if together:
        hits, both = hits.sum(0, keepdims=True), both.sum(0, keepdims=True)
    return lambda counts: mean_ratio(hits @ counts, both @ counts)


def _unknown(counts: Floats) -> Floats:
    return np.full(counts.shape[1], np.nan)


def _auc(logits: npt.NDArray[np.floating], own: npt.NDArray[np.bool_]) -> Statistic:
    known = [label for label in range(own.shape[1]) if 0 < own[:, label].sum() < len(own)]
    if not known or not np.isfinite(logits).all():
        return _unknown
    curves = [Curve(logits[:, label].astype(np.float64), own[:, label]) for label in known]

    def found(counts: Floats) -> Floats:
        pairs = [curve.pairs(counts) for curve in curves]
        return mean_ratio(np.stack([won for won, _ in pairs]), np.stack([every for _, every in pairs]))

    return found


def _mean_precision(logits: npt.NDArray[np.floating], own: npt.NDArray[np.bool_]) -> Statistic:
    known = [label for label in range(own.shape[1]) if own[:, label].any()]
    if not known or not np.isfinite(logits).all():
        return _unknown
    ranked = [_Ranked(logits[:, label], own[:, label]) for label in known]

    def found(counts: Floats) -> Floats:
        parts = [one.precision(counts) for one in ranked]
        return mean_ratio(np.stack([above for above, _ in parts]), np.stack([images for _, images in parts]))

    return found


class _Ranked:
    """The images from the largest output for a label to the smallest."""

    def __init__(self, outputs: npt.NDArray[np.floating], own: npt.NDArray[np.bool_]) -> None:
        self._order = np.argsort(-outputs, kind="stable")
        descending = outputs[self._order]
        self._own = own[self._order][:, None]
        self._ends = np.flatnonzero(np.append(descending[1:] != descending[:-1], True))
        """The last image of each group of equal outputs."""

    def precision(self, counts: Floats) -> tuple[Floats, Floats]:
        """The sum over images with the label of the precision at their output, and how many these are."""
        ordered = counts[self._order]
        taken = np.cumsum(ordered, axis=0)[self._ends]
        right = np.cumsum(ordered * self._own, axis=0)[self._ends]
        at = np.divide(right, taken, out=np.zeros_like(right), where=taken > 0)
        return (at * np.diff(right, axis=0, prepend=0)).sum(0), right[-1]
