"""Numbers of an image, one or several: squared errors of targets that are standardised by the training images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from glorasearch.space.early_stopping import UNIT
from glorasearch.statistics import Estimate, Metric, by_target, measure_numbers
from glorasearch.tasks.base import Array, Task, at_least_float32
from glorasearch.tasks.kinds import BETWEEN, TaskKind
from glorasearch.tasks.standard import Standard

GROUPS: Final = 10
"""Groups of images by their targets, about, in whose proportions splits are drawn and folds are made."""
CROSSED: Final = 3
"""Targets, the first ones, whose quantiles make these groups."""
DIGITS: Final = 5
"""Of a target's deviation, after its first, that a number is written with: what float32 keeps of up to 8 of them."""
COARSE: Final = 1e-3
"""Of a target's deviation, that a step of float32 may be: what exports may differ by (`export.verify`)."""
NO_CLASSES: Final = "numbers have neither weights of classes nor label smoothing"


@dataclass(frozen=True)
class Regress(Task):
    """Targets are `(N, targets)` float32, standardised; outputs of a model are what it takes them for.

    The loss of an image is the mean of the squared errors over the targets: 1 on average for a model that always says
    the mean. It is never negative, so candidates are stopped early as exactly as those of classes are. No image is
    right or wrong, and there is no temperature: losses are the same at each.
    """

    standard: Standard | None = None
    """None of a model that answers in the targets' own units, as exported ones do."""

    huber_delta: float = 0.0
    """Errors above it, in standard deviations, count linearly in the loss; 0 for the squared error. That of splits is
    0: candidates are judged by squared errors."""

    kind: ClassVar[TaskKind] = "regress"
    exclusive: ClassVar[bool] = False
    right_or_wrong: ClassVar[bool] = False

    def label_loss(self, logits: Tensor, targets: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
        """Mean squared error, or Huber's loss; there are neither smoothing nor weights of classes."""
        if weights is not None or smoothing:
            raise ValueError(NO_CLASSES)
        found = at_least_float32(logits)
        return self._mean(found, targets.to(found.dtype))

    def distillation_loss(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """The same against what the teacher says."""
        return self._mean(at_least_float32(logits), teacher)

    def _mean(self, found: Tensor, wanted: Tensor) -> Tensor:
        return self._each(found, wanted).mean() if self.huber_delta else F.mse_loss(found, wanted)

    def _each(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Of each number: the squared error, or twice Huber's loss, which is that up to `huber_delta`."""
        if self.huber_delta:
            return 2 * F.huber_loss(found, wanted, reduction="none", delta=self.huber_delta)
        return (found - wanted).square()

    def trained_by(self, huber_delta: float) -> Self:
        """With Huber's loss, or the squared error if that is 0."""
        return replace(self, huber_delta=huber_delta)

    def probabilities(self, logits: Tensor) -> Tensor:
        """The outputs as they are."""
        return logits

    def said(self, outputs: Tensor, temperature: float = 1.0) -> Tensor:
        """In the targets' own units."""
        return outputs if self.standard is None else self.standard.undone(outputs)

    def member_losses(
        self, logits: Tensor, targets: Tensor, smoothing: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Mean squared errors; there are neither smoothing nor weights of classes."""
        if weights is not None:
            raise ValueError(NO_CLASSES)
        found = at_least_float32(logits)
        return self._each(found, targets.to(found.dtype)).mean(dim=(-1, -2))

    def answers_fault(self, answers: Tensor) -> str | None:
        """Any that are finite."""
        return None if bool(torch.isfinite(answers).all()) else "targets must be finite"

    def chance(self, outputs: int) -> float:
        """The mean of the training images, always."""
        return 1.0

    def predicted(self, logits: Tensor) -> Tensor:
        """The outputs."""
        return logits

    def matches(self, predicted: Tensor, targets: Tensor) -> Tensor:
        """None: no image is right or wrong."""
        return torch.zeros(len(predicted), dtype=torch.bool, device=predicted.device)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean of its squared errors, or of its losses."""
        return self._each(logits.double(), targets.double()).mean(-1).div_(UNIT).round_()

    def tempered_losses(self, logits: Tensor, targets: Tensor, betas: Tensor) -> Tensor:
        """The same at each."""
        return self.losses(logits, targets).expand(len(betas), -1)

    def fitted(self, targets: Array) -> Self:
        """The task with the standard of the training images."""
        return type(self)(Standard.of(targets))

    def encoded(self, targets: Array) -> Array:
        """Standardised, `(N, targets)` float32."""
        if self.standard is None:
            return targets
        found: Array = (targets - np.array(self.standard.mean)) / np.array(self.standard.std)
        return found.astype(np.float32)

    @property
    def facts(self) -> dict[str, Any]:
        """Kind and standard."""
        own = None if self.standard is None else [list(self.standard.mean), list(self.standard.std)]
        return {"task": self.kind, "standard": own}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The inverse."""
        own = facts.get("standard")
        return cls(None if own is None else Standard(tuple(own[0]), tuple(own[1])))

    def targets_fault(self, targets: Array, names: Sequence[str]) -> str | None:
        """A target that all images have alike, or whose numbers float32 cannot tell apart: exports answer in that."""
        alike = [name for name, spread in zip(names, np.ptp(targets, axis=0).tolist(), strict=True) if not spread]
        if not alike:
            return _too_far(targets, names)
        value = targets[0, names.index(alike[0])]
        return (
            f"target {alike[0]!r} is {value:g} for all {len(targets)} images of the train split: there is nothing to "
            "learn; leave the column out, or raise data.train"
        )

    def strata(self, targets: Array) -> npt.NDArray[np.int64]:
        """Quantiles of the target: ten groups; of several targets the halves, or thirds, of the first three, crossed.

        Equal targets are in one group.
        """
        crossed = targets[:, :CROSSED]
        parts = max(2, round(GROUPS ** (1 / crossed.shape[1])))
        found = np.zeros(len(targets), np.int64)
        for column in crossed.T:
            ordered = np.sort(column)
            edges = [ordered[len(ordered) * part // parts] for part in range(1, parts)] if len(ordered) else []
            found = found * parts + np.searchsorted(np.array(edges), column, side="right")
        return found

    def images_of(self, targets: Array, outputs: int) -> list[int]:
        """All, each target."""
        return [len(targets)] * outputs

    def by_output(self, logits: Array, predicted: Array, targets: Array) -> list[dict[str, Any]]:
        """By target: its metrics, in its own unit."""
        own, wanted = self._in_units(logits), self._in_units(targets)
        return [{"images": len(targets), **found} for found in by_target(own, wanted)]

    def written(self, target: Any, names: Sequence[str]) -> str:
        """In its own units."""
        return BETWEEN.join(self.in_digits(np.asarray(target, dtype=np.float64)))

    def in_digits(self, numbers: Array) -> list[str]:
        """Numbers `(targets,)` of an image, in their own units, each as far as the deviation of its target resolves it.

        Times in seconds since 1970 have ten digits, whatever they deviate by.
        """
        own = self._in_units(numbers).tolist()
        if self.standard is None:
            return [f"{value:.9g}" for value in own]
        places = [DIGITS - math.floor(math.log10(std)) for std in self.standard.std]
        return [f"{round(value, place):.15g}" for value, place in zip(own, places, strict=True)]

    def measure(
        self, logits: Array, predicted: Array, targets: Array, metrics: Iterable[Metric], **options: Any
    ) -> dict[str, Estimate]:
        """Those of numbers, in their own units; there is no temperature."""
        options.pop("temperature", None)
        return measure_numbers(self._in_units(logits), self._in_units(targets), metrics, **options)

    def _in_units(self, values: Array) -> Array:
        """Numbers `(..., targets)` float64."""
        if self.standard is None:
            return values.astype(np.float64)
        found: Array = values.astype(np.float64) * np.array(self.standard.std) + np.array(self.standard.mean)
        return found


def _too_far(targets: Array, names: Sequence[str]) -> str | None:
    """A target that lies so far from 0 that steps of float32 there are a part of its deviation that matters."""
    step = np.spacing(np.abs(targets).max(0).astype(np.float32)).tolist()
    for name, own, std, mean in zip(names, step, targets.std(0).tolist(), targets.mean(0).tolist(), strict=True):
        if own > COARSE * std:
            return (
                f"target {name!r} is {mean:.6g} on average and deviates by {std:.3g}, but exported models answer in "
                f"float32, which has steps of {own:.3g} there: subtract a number such as {mean:.6g} from the column"
            )
    return None
