"""The plain training step: the sampled subnets' forward and backward passes as PyTorch runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from glorasearch.recompute import recomputing
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY, Task
from glorasearch.training.communicator import Communicator
from glorasearch.training.optimizer import SupernetOptimizer
from glorasearch.training.sampling import SampledSubnet
from glorasearch.training.step import RankBatch, Step, drop_probabilities, model_randomness


class PlainStep(Step):
    """One forward and backward pass per subnet through `Supernet.activate`, then AdamW."""

    def __init__(
        self,
        supernet: Supernet,
        optimizer: SupernetOptimizer,
        *,
        mixed: bool,
        label_smoothing: float,
        clip_norm: float,
        seed: int,
        class_weights: Tensor | None = None,
        task: Task = CLASSIFY,
    ) -> None:
        """`mixed` runs the model under bfloat16 autocast; `seed` decides what the model drops.

        `class_weights`, `(classes,)` on the device, weight images in the loss by their class; the loss is the `task`'s.
        """
        self.mixed = mixed
        self._supernet, self._optimizer = supernet, optimizer
        self._smoothing, self._clip, self._seed = label_smoothing, clip_norm, seed
        self.class_weights, self.task = class_weights, task
        self._drops = bool(drop_probabilities(supernet))
        self._recomputes = False

    def run(
        self, number: int, sampled: Sequence[SampledSubnet], images: Tensor, labels: Tensor, lr_scale: float
    ) -> Tensor:
        """See `Step.run`."""
        self._optimizer.set_lr(lr_scale)
        loss = self._backward(number, RankBatch(0, sampled, images, labels))
        norm = self._optimizer.clip(self._clip)
        self._optimizer.step()
        return torch.stack([loss, norm])

    def run_ranks(
        self, number: int, batches: Sequence[RankBatch], communicator: Communicator, lr_scale: float
    ) -> Tensor:
        """See `Step.run_ranks`; a parameter is stepped if any rank sampled it."""
        self._optimizer.set_lr(lr_scale)
        rows: list[Tensor] = []
        for batch in batches:
            loss = self._backward(number, batch)
            rows.append(torch.cat([loss[None], self._optimizer.flat_gradients()]))
        mean = communicator.sum(torch.stack(rows)) / (len(batches) * communicator.size)
        self._optimizer.set_flat_gradients(mean[1:])
        norm = self._optimizer.clip(self._clip)
        self._optimizer.step()
        return torch.stack([mean[0], norm])

    def recompute(self) -> None:
        """See `Step.recompute`."""
        self._recomputes = True

    def forget(self, names: Sequence[str]) -> None:
        """See `Step.forget`."""
        self._optimizer.forget(names)

    def state(self) -> dict[str, Tensor]:
        """See `Step.state`."""
        return self._optimizer.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Step.load_state`."""
        self._optimizer.load_state(state)

    def _backward(self, number: int, batch: RankBatch) -> Tensor:
        """Leave the gradients of a rank's subnets in the parameters; returns the subnets' mean loss, a scalar."""
        self._optimizer.zero_grad()
        count = len(batch.sampled)
        total = torch.zeros((), device=batch.images.device)
        teacher: Tensor | None = None
        for index, each in enumerate(batch.sampled):
            logits = self._forward(number, index, each, batch)
            target = teacher if each.distilled else None
            loss = self.task.subnet_loss(
                logits, batch.labels, target, smoothing=self._smoothing, weights=self.class_weights
            )
            if teacher is None and count > 1:
                teacher = self.task.teacher_of(logits)
            torch.autograd.backward(loss / count)
            total += loss.detach() / count
        return total

    def _forward(self, number: int, index: int, sampled: SampledSubnet, batch: RankBatch) -> Tensor:
        device, supernet = batch.images.device, self._supernet
        with (
            recomputing(supernet, partial(supernet.activate, sampled.subnet), random=self._drops)
            if self._recomputes
            else nullcontext(),
            model_randomness(self._drops, self._seed, number, index, device, batch.rank),
            supernet.activate(sampled.subnet),
            torch.autocast(device.type, torch.bfloat16, enabled=self.mixed),
        ):
            logits: Tensor = supernet(batch.images)
        return logits
