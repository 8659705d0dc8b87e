"""Any number of labels an image, each of which it has or has not: sigmoids and binary cross-entropies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from glorasearch.space.early_stopping import UNIT
from glorasearch.statistics import Estimate, Metric, label_curves, measure_labels
from glorasearch.tasks.base import Array, Task, at_least_float32
from glorasearch.tasks.kinds import BETWEEN, TaskKind

"""Between the labels of an image in a table."""
NO_WEIGHTS: Final = "labels that do not exclude each other have no weights of classes"


class MultiLabel(Task):
    """Targets are `(N, labels)` float32, 1 where the image has the label and 0 elsewhere.

    The loss of an image is the mean of its binary cross-entropies over the labels, and it is right where every label
    is: it is said to have those whose probability is above one half. No loss is negative, at any temperature, so
    candidates are stopped early as exactly as those of classes are.
    """

    kind: ClassVar[TaskKind] = "multilabel"
    exclusive: ClassVar[bool] = False

    def label_loss(self, logits: Tensor, targets: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
        """Mean binary cross-entropy; smoothing moves 0 and 1 towards one half. There are no weights of classes."""
        if weights is not None:
            raise ValueError(NO_WEIGHTS)
        smooth = targets if not smoothing else targets * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(at_least_float32(logits), smooth)

    def distillation_loss(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """Mean binary cross-entropy against the teacher's sigmoids."""
        return F.binary_cross_entropy_with_logits(at_least_float32(logits), teacher)

    def probabilities(self, logits: Tensor) -> Tensor:
        """The sigmoids."""
        return logits.sigmoid()

    def member_losses(
        self, logits: Tensor, targets: Tensor, smoothing: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Mean binary cross-entropies; there are no weights of classes."""
        if weights is not None:
            raise ValueError(NO_WEIGHTS)
        found = at_least_float32(logits)
        share = smoothing.to(found.dtype)[:, None, None]
        smooth = targets.to(found.dtype) * (1 - share) + share / 2
        return F.binary_cross_entropy_with_logits(found, smooth, reduction="none").mean(dim=(-1, -2))

    def answers_fault(self, answers: Tensor) -> str | None:
        """Each from 0 to 1; a row may have any sum."""
        if bool(((answers >= 0) & (answers <= 1)).all()):
            return None
        return "targets must be probabilities, each from 0 to 1"

    def chance(self, outputs: int) -> float:
        """Every label is as likely as not."""
        return math.log(2)

    def predicted(self, logits: Tensor) -> Tensor:
        """The labels whose probability is above one half, `(N, labels)` float32."""
        return (logits > 0).float()

    def matches(self, predicted: Tensor, targets: Tensor) -> Tensor:
        """Where all labels are right."""
        return (predicted == targets).all(-1)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean of its binary cross-entropies."""
        each = F.binary_cross_entropy_with_logits(logits.double(), targets.double(), reduction="none")
        return each.mean(-1).div_(UNIT).round_()

    def tempered_losses(self, logits: Tensor, targets: Tensor, betas: Tensor) -> Tensor:
        """The means of its binary cross-entropies."""
        scaled = logits.double() * betas[:, None, None]
        wanted = targets.double().expand_as(scaled)
        each = F.binary_cross_entropy_with_logits(scaled, wanted, reduction="none")
        return each.mean(-1).div_(UNIT).round_()

    def strata(self, targets: Array) -> npt.NDArray[np.int64]:
        """One group: images with several labels have no classes in whose proportions they could be drawn."""
        return np.zeros(len(targets), np.int64)

    def images_of(self, targets: Array, outputs: int) -> list[int]:
        """By label; an image counts for each that it has."""
        counts: list[int] = targets.sum(0).astype(np.int64).tolist()
        return counts

    def by_output(self, logits: Array, predicted: Array, targets: Array) -> list[dict[str, Any]]:
        """By label, with the area under its ROC curve and its average precision."""
        columns = zip(targets.T > 0, predicted.T > 0, label_curves(logits, targets), strict=True)
        return [
            {
                "images": int(own.sum()),
                "correct": int((own & said).sum()),
                "predicted": int(said.sum()),
                "auc": area,
                "average_precision": precision,
            }
            for own, said, (area, precision) in columns
        ]

    def written(self, target: Any, names: Sequence[str]) -> str:
        """The names of its labels."""
        return BETWEEN.join(name for name, has in zip(names, target, strict=True) if has)

    def measure(
        self, logits: Array, predicted: Array, targets: Array, metrics: Iterable[Metric], **options: Any
    ) -> dict[str, Estimate]:
        """Those of labels."""
        return measure_labels(logits, targets, metrics, **options)
