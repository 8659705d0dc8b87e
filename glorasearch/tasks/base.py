"""The interface of a task: targets, loss of a training, score of a candidate, metrics of the test images.

What trains, searches, tests and exports asks the task of its images and knows of no classes itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glorasearch.errors import ConfigError
from glorasearch.statistics import Estimate, Metric
from glorasearch.tasks.kinds import WORDS, TaskKind, Words
from glorasearch.tasks.standard import Standard

Array = npt.NDArray[Any]


class Task(ABC):
    """What is asked of an image. Targets of N images are `(N, ...)`: `(N,)` labels, or `(N, outputs)`."""

    kind: ClassVar[TaskKind]
    exclusive: ClassVar[bool]
    """Whether an image has one class, so that classes can be balanced, stratified and confused."""
    right_or_wrong: ClassVar[bool] = True
    """Whether what is said of an image is right or wrong, so that there are an accuracy and probabilities, which a
    temperature makes fit; else there is the loss alone."""
    standard: Standard | None = None
    """Of targets that are learnt standardised: by what. The exported model answers in their own units."""

    @property
    def words(self) -> Words:
        """How it is spoken of."""
        return WORDS[self.kind]

    # Training

    @abstractmethod
    def label_loss(self, logits: Tensor, targets: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
        """Mean loss of logits `(N, outputs)` against the targets of N images; a scalar in nats."""

    def trained_by(self, huber_delta: float) -> Task:
        """The task with the loss of a training.

        Raises:
            ConfigError: if it is asked for Huber's loss and has no numbers.
        """
        if huber_delta:
            raise ConfigError(f"huber_delta is {huber_delta:g}, but Huber's loss is of numbers; leave it out")
        return self

    @abstractmethod
    def distillation_loss(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """The same against what `teacher_of` made of another model's logits."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """`(..., outputs)` probabilities of logits `(..., outputs)`."""

    def said(self, outputs: Tensor, temperature: float = 1.0) -> Tensor:
        """What people are told of outputs `(N, outputs)`: probabilities of logits divided by a temperature."""
        return self.probabilities(outputs.double() / temperature)

    def teacher_of(self, logits: Tensor) -> Tensor:
        """The target of distillation: the probabilities of logits, without a gradient."""
        return self.probabilities(at_least_float32(logits.detach()))

    def subnet_loss(
        self,
        logits: Tensor,
        targets: Tensor,
        teacher: Tensor | None,
        *,
        smoothing: float,
        weights: Tensor | None = None,
    ) -> Tensor:
        """The loss of one subnet of a step: against the teacher if there is one, else against the targets."""
        if teacher is None:
            return self.label_loss(logits, targets, smoothing, weights)
        return self.distillation_loss(logits, teacher)

    @abstractmethod
    def member_losses(
        self, logits: Tensor, targets: Tensor, smoothing: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """`(M,)`: `label_loss` of each of M models that are trained side by side, with its own smoothing.

        Args:
            logits: `(M, B, outputs)`.
            targets: `(M, B, ...)`, or what `probabilities` gives, `(M, B, outputs)`.
            smoothing: `(M,)`.
            weights: `(M, outputs)`: of images in the mean, by their class.
        """

    @abstractmethod
    def answers_fault(self, answers: Tensor) -> str | None:
        """Why `(N, outputs)` are not what `probabilities` gives; None if they may be."""

    @abstractmethod
    def chance(self, outputs: int) -> float:
        """The loss of a model that knows nothing, nats."""

    # Scores

    @abstractmethod
    def predicted(self, logits: Tensor) -> Tensor:
        """What a model says, in the form of targets."""

    @abstractmethod
    def matches(self, predicted: Tensor, targets: Tensor) -> Tensor:
        """`(N,)` bool: of which images that is right."""

    def right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """`(N,)` bool: the images of which logits `(N, outputs)` say what the targets are."""
        return self.matches(self.predicted(logits), targets)

    @abstractmethod
    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """`(N,)` float64: an image's loss, in whole units of 2⁻³⁰ nats, not negative."""

    @abstractmethod
    def tempered_losses(self, logits: Tensor, targets: Tensor, betas: Tensor) -> Tensor:
        """`(K, N)`: the same of logits multiplied by each of `betas` `(K,)`."""

    # Data, report, export

    def fitted(self, targets: Array) -> Task:
        """The task, once the targets `(N, ...)` of the training images are known."""
        return self

    def encoded(self, targets: Array) -> Array:
        """Targets as a training learns them."""
        return targets

    @property
    def facts(self) -> dict[str, Any]:
        """What makes the same task in another process, as JSON (`glorasearch.tasks.table.task_from`)."""
        return {"task": self.kind}

    def targets_fault(self, targets: Array, names: Sequence[str]) -> str | None:
        """Why nothing can be learnt from the targets of the training images, whose outputs have these names."""
        return None

    @abstractmethod
    def strata(self, targets: Array) -> npt.NDArray[np.int64]:
        """`(N,)` the groups in whose proportions splits are drawn and folds are made."""

    @abstractmethod
    def images_of(self, targets: Array, outputs: int) -> list[int]:
        """How many images each output has."""

    @abstractmethod
    def by_output(self, logits: Array, predicted: Array, targets: Array) -> list[dict[str, Any]]:
        """Of each output `images` that have it, those of them of which it is said, `correct`, all of which it is said,
        `predicted`, and what else is known."""

    @abstractmethod
    def written(self, target: Any, names: Sequence[str]) -> str:
        """The target of one image, as `tolist` gives it, in a table."""

    @abstractmethod
    def measure(
        self, logits: Array, predicted: Array, targets: Array, metrics: Iterable[Metric], **options: Any
    ) -> dict[str, Estimate]:
        """The metrics of test images; `options` are those of `glorasearch.statistics.measure`."""


def at_least_float32(logits: Tensor) -> Tensor:
    """The logits, those of a mixed forward pass as float32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
