"""One class an image: softmax and cross-entropy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from glorasearch.space.early_stopping import UNIT
from glorasearch.statistics import Estimate, Metric, measure
from glorasearch.tasks.base import Array, Task, at_least_float32
from glorasearch.tasks.kinds import TaskKind


class Classify(Task):
    """Targets are labels `(N,)` int64; in a training that mixes images, probabilities `(N, classes)`."""

    kind: ClassVar[TaskKind] = "classify"
    exclusive: ClassVar[bool] = True

    def label_loss(self, logits: Tensor, targets: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
        """Mean cross-entropy, with label smoothing.

        With `weights`, `(classes,)`, each image's is multiplied by that of its class before the mean is taken.
        """
        if weights is None:
            return F.cross_entropy(at_least_float32(logits), targets, label_smoothing=smoothing)
        each = F.cross_entropy(at_least_float32(logits), targets, label_smoothing=smoothing, reduction="none")
        return (each * image_weights(targets, weights)).mean()

    def distillation_loss(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """Mean cross-entropy against the teacher's softmax."""
        return -(teacher * F.log_softmax(at_least_float32(logits), dim=-1)).sum(-1).mean()

    def probabilities(self, logits: Tensor) -> Tensor:
        """The softmax."""
        return logits.softmax(-1)

    def member_losses(
        self, logits: Tensor, targets: Tensor, smoothing: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Mean cross-entropies."""
        logs = F.log_softmax(at_least_float32(logits), dim=-1)
        if targets.ndim == 2:
            own = logs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        else:
            own = (targets.to(logs.dtype) * logs).sum(-1)
        share = smoothing.to(logs.dtype)
        if weights is not None:
            each = (1 - share[:, None]) * own + share[:, None] * logs.mean(-1)
            return -(each * image_weights(targets, weights)).mean(-1)
        return -((1 - share) * own.mean(-1) + share * logs.mean(dim=(-1, -2)))

    def answers_fault(self, answers: Tensor) -> str | None:
        """Rows of sum 1."""
        sums = answers.sum(-1)
        if bool((answers >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            return None
        return "targets must be probabilities, each row of sum 1"

    def chance(self, outputs: int) -> float:
        """Every class is equally likely."""
        return math.log(outputs)

    def predicted(self, logits: Tensor) -> Tensor:
        """The class of the largest."""
        return logits.argmax(-1)

    def matches(self, predicted: Tensor, targets: Tensor) -> Tensor:
        """Where it is the label."""
        return predicted == targets

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The cross-entropy."""
        return F.cross_entropy(logits.double(), targets, reduction="none").div_(UNIT).round_()

    def tempered_losses(self, logits: Tensor, targets: Tensor, betas: Tensor) -> Tensor:
        """The cross-entropies."""
        scaled = logits.double() * betas[:, None, None]
        chosen = scaled.log_softmax(-1).gather(-1, targets.expand(len(betas), -1)[..., None])
        return chosen.squeeze(-1).abs_().div_(UNIT).round_()

    def strata(self, targets: Array) -> npt.NDArray[np.int64]:
        """The classes."""
        return targets

    def images_of(self, targets: Array, outputs: int) -> list[int]:
        """By label."""
        counts: list[int] = np.bincount(targets, minlength=outputs).tolist()
        return counts

    def by_output(self, logits: Array, predicted: Array, targets: Array) -> list[dict[str, Any]]:
        """By class."""
        lists = {"images": targets, "correct": targets[targets == predicted], "predicted": predicted}
        counts = {name: Counter(one.tolist()) for name, one in lists.items()}
        return [{name: one[number] for name, one in counts.items()} for number in range(logits.shape[1])]

    def written(self, target: Any, names: Sequence[str]) -> str:
        """The name of the class."""
        return names[int(target)]

    def measure(
        self, logits: Array, predicted: Array, targets: Array, metrics: Iterable[Metric], **options: Any
    ) -> dict[str, Estimate]:
        """Those of classes."""
        return measure(logits, predicted, targets, metrics, **options)


def image_weights(targets: Tensor, weights: Tensor) -> Tensor:
    """The weights of images by those of classes `(..., classes)`.

    Of labels `(..., N)` or probabilities `(..., N, classes)`: `(..., N)`.
    """
    if targets.ndim == weights.ndim:
        return weights.gather(-1, targets)
    return (targets.to(weights.dtype) * weights.unsqueeze(-2)).sum(-1)
