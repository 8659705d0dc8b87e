"""Metrics of a classifier on images: those that `[report] metrics` of a run file names, each with its interval.

All are functions of how often each image occurs, so that value and resamples come from the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from glorasearch.statistics.bootstrap import Floats, Groups, Ints, Statistic, bootstrap_interval, resampled
from glorasearch.statistics.intervals import wilson

ClassMetric = Literal["top1", "top5", "balanced_accuracy", "macro_f1", "auc", "log_loss", "calibration_error"]
"""What is measured of predictions of one class an image.

- `top1`, `top5`: the share of images whose label is the first, or among the first five.
- `balanced_accuracy`: the mean over classes of the share of their images that are right.
- `macro_f1`: the mean over classes of the F1 score; a class counts if an image has it or is taken for it.
- `auc`: the mean over classes of the area under the ROC curve of one class against the rest.
- `log_loss`: the mean cross-entropy, nats.
- `calibration_error`: the expected calibration error (Guo et al. 2017): |accuracy - confidence| in 15 bins of equal
  width, each weighted by its images.

Given a temperature, the last two are also of logits divided by it: `log_loss_tempered`, `calibration_error_tempered`.
"""
LabelMetric = Literal["subset_accuracy", "map", "macro_f1", "micro_f1", "auc", "log_loss"]
"""What is measured of predictions of any number of labels an image (`glorasearch.statistics.label_metrics`)."""
NumberMetric = Literal["r2", "mae", "rmse"]
"""What is measured of predicted numbers (`glorasearch.statistics.number_metrics`)."""
Metric = Literal[ClassMetric, LabelMetric, NumberMetric]
METRICS: Final[tuple[ClassMetric, ...]] = get_args(ClassMetric)
LABEL_METRICS: Final[tuple[LabelMetric, ...]] = get_args(LabelMetric)
NUMBER_METRICS: Final[tuple[NumberMetric, ...]] = get_args(NumberMetric)
TEMPERED: Final = "{}_tempered"
"""Name of a metric of logits divided by a temperature."""
BINS: Final = 15
AUC_WORK: Final = 2 * 10**8
"""Images x classes x resamples of an area under a curve, at most; but there are always `FEWEST` resamples."""
FEWEST: Final = 100
_SLOW: Final = frozenset({"auc", "map"})
_UNBOUNDED: Final = ("log_loss", "mae", "rmse")
"""How names of metrics without an upper end start."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric and how well it is known."""

    value: float | None
    """None if it does not exist: an area under the curve if all images have one label, or if logits are not finite."""
    interval: tuple[float, float] | None
    """95 %, over the sampling of the images; None if resamples do not tell."""
    resamples: int
    """Of the images, that the interval is from; 0 of a share of images, whose interval is Wilson's."""


def measure(
    logits: npt.NDArray[np.floating],
    predicted: Ints,
    labels: Ints,
    metrics: Iterable[Metric] = METRICS,
    *,
    resamples: int = 1000,
    seed: int = 0,
    temperature: float | None = None,
) -> dict[str, Estimate]:
    """The metrics of logits `(N, classes)`, of which class `predicted` `(N,)` is the largest, and labels `(N,)`.

    `top5` is left out where there are five classes or less: it is 1 there. With 0 resamples only shares of images have
    intervals.

    Raises:
        ValueError: if there is no image.
    """
    if not len(labels):
        raise ValueError("metrics need images")
    images, classes = logits.shape
    asked = [name for name in METRICS if name in set(metrics) and (name != "top5" or classes > 5)]
    found: dict[str, Estimate] = {}
    statistics: dict[str, Statistic] = {}
    for name in asked:
        if name == "top1":
            found[name] = share(predicted == labels)
        elif name == "top5":
            found[name] = share(_among_first(logits, labels, 5))
        else:
            statistics |= _statistics(name, logits, predicted, labels, temperature)
    return found | estimates(statistics, images, classes, resamples, seed)


def share(right: npt.NDArray[np.bool_]) -> Estimate:
    """The share of images that are right, `(N,)`, with Wilson's interval."""
    number = int(right.sum())
    return Estimate(number / len(right), wilson(number, len(right)), 0)


def estimates(
    statistics: Mapping[str, Statistic], images: int, classes: int, resamples: int, seed: int
) -> dict[str, Estimate]:
    """Statistics of so many images with their bootstrap intervals; slow ones have fewer resamples."""
    values = {name: float(statistic(np.ones((images, 1)))[0]) for name, statistic in statistics.items()}
    most = {name: resamples if math.isfinite(value) else 0 for name, value in values.items()}
    for name in _SLOW.intersection(most):
        most[name] = min(most[name], max(FEWEST, AUC_WORK // (images * classes)))
    drawn: dict[str, list[Floats]] = {name: [] for name in most}
    for start, counts in resampled(images, max(most.values(), default=0), seed):
        for name, statistic in statistics.items():
            if start < most[name]:
                drawn[name].append(statistic(counts[:, : most[name] - start]))
    found: dict[str, Estimate] = {}
    for name, value in values.items():
        low, high = -math.inf if name == "r2" else 0.0, math.inf if name.startswith(_UNBOUNDED) else 1.0
        interval = bootstrap_interval(value, np.concatenate(drawn[name]), low, high) if drawn[name] else None
        found[name] = Estimate(value if math.isfinite(value) else None, interval, most[name])
    return found


def _statistics(
    name: Metric, logits: npt.NDArray[np.floating], predicted: Ints, labels: Ints, temperature: float | None
) -> dict[str, Statistic]:
    right = predicted == labels
    if name == "balanced_accuracy":
        return {name: _balanced_accuracy(right, labels)}
    if name == "macro_f1":
        return {name: _macro_f1(predicted, labels)}
    logs = _log_softmax(logits)
    if name == "auc":
        return {name: _auc(np.exp(logs), labels)}
    each = np.arange(len(labels))

    def of(logs: Floats) -> Statistic:
        if name == "log_loss":
            return mean_of(-logs[each, labels])
        return _calibration_error(np.exp(logs[each, predicted]), right)

    found: dict[str, Statistic] = {name: of(logs)}
    return found if temperature is None else found | {TEMPERED.format(name): of(_log_softmax(logits, temperature))}


def _log_softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> Floats:
    with np.errstate(invalid="ignore"):
        scaled = logits.astype(np.float64) / temperature
        shifted = scaled - scaled.max(1, keepdims=True)
        logs: Floats = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return logs


def _among_first(logits: npt.NDArray[np.floating], labels: Ints, most: int) -> npt.NDArray[np.bool_]:
    """Whether the label is among the `most` largest logits; of equal ones the first are."""
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    ranks = ((logits > own) | ((logits == own) & earlier)).sum(1)
    among: npt.NDArray[np.bool_] = (ranks < most) & np.isfinite(own[:, 0])
    return among


def mean_of(values: Floats) -> Statistic:
    """The mean of the images' values `(N,)`."""
    return lambda counts: values @ counts / len(values)


def mean_ratio(above: Floats, below: Floats) -> Floats:
    """The mean over the classes, `(G, r)` to `(r,)`, for which there is a ratio."""
    exists = below > 0
    ratios = np.divide(above, below, out=np.zeros_like(below), where=exists)
    number = exists.sum(0)
    mean: Floats = np.divide(ratios.sum(0), number, out=np.full(len(number), np.nan), where=number > 0)
    return mean


def _balanced_accuracy(right: npt.NDArray[np.bool_], labels: Ints) -> Statistic:
    by_label = Groups(labels)
    return lambda counts: mean_ratio(by_label.sums(counts * right[:, None]), by_label.sums(counts))


def _macro_f1(predicted: Ints, labels: Ints) -> Statistic:
    classes = np.union1d(labels, predicted)
    by_label, by_prediction, right = Groups(labels), Groups(predicted), (predicted == labels)[:, None]

    def found(counts: Floats) -> Floats:
        hits, both = np.zeros((2, len(classes), counts.shape[1]))
        labelled = np.searchsorted(classes, by_label.keys)
        hits[labelled] = by_label.sums(counts * right)
        both[labelled] = by_label.sums(counts)
        both[np.searchsorted(classes, by_prediction.keys)] += by_prediction.sums(counts)
        return mean_ratio(2 * hits, both)

    return found


def _calibration_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> Statistic:
    if not np.isfinite(confidence).all():
        return lambda counts: np.full(counts.shape[1], np.nan)
    bins = Groups(np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1))
    gaps = (right - confidence)[:, None]
    return lambda counts: np.abs(bins.sums(counts * gaps)).sum(0) / len(confidence)


def _auc(probabilities: Floats, labels: Ints) -> Statistic:
    """Of pairs of an image of the class and one of the rest, the share in which the former has the larger output."""
    if not np.isfinite(probabilities).all():
        return lambda counts: np.full(counts.shape[1], np.nan)
    curves = [Curve(probabilities[:, label], labels == label) for label in np.unique(labels)]

    def found(counts: Floats) -> Floats:
        pairs = [curve.pairs(counts) for curve in curves]
        return mean_ratio(np.stack([won for won, _ in pairs]), np.stack([all_ for _, all_ in pairs]))

    return found


class Curve:
    """One class against the rest."""

    def __init__(self, outputs: Floats, own: npt.NDArray[np.bool_]) -> None:
        """Of images with outputs `(N,)`, of which `own` `(N,)` are of the class."""
        self._order = np.argsort(outputs, kind="stable").astype(np.int32)
        ascending = outputs[self._order]
        self._rest = ~own[self._order][:, None]
        self._own = np.flatnonzero(own[self._order])
        self._below = np.searchsorted(ascending, ascending[self._own], "left")
        self._up_to = np.searchsorted(ascending, ascending[self._own], "right")

    def pairs(self, counts: Floats) -> tuple[Floats, Floats]:
        """Pairs in which the image of the class has the larger output, one half where they are equal; and all."""
        ordered = counts[self._order]
        rest = np.zeros((len(ordered) + 1, ordered.shape[1]))
        np.cumsum(ordered * self._rest, axis=0, out=rest[1:])
        own = ordered[self._own]
        won = (own * (rest[self._below] + rest[self._up_to])).sum(0) / 2
        return won, own.sum(0) * rest[-1]
