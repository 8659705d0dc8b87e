"""The plain training step: the active subnet's forward and backward pass as PyTorch runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glorasearch.supernet import Supernet
from glorasearch.training.losses import path_loss, teacher_of
from glorasearch.training.optimizer import SupernetOptimizer
from glorasearch.training.paths import Path
from glorasearch.training.randomness import drop_probabilities, model_randomness
from glorasearch.training.world import World


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank does in a step."""

    rank: int
    paths: Sequence[Path]
    images: Tensor
    """`(N / ranks, C, H, W)`"""
    labels: Tensor
    """`(N / ranks,)`"""


class Step(ABC):
    """Does the steps of one training; holds the state of its optimiser."""

    @abstractmethod
    def run(self, number: int, paths: Sequence[Path], images: Tensor, labels: Tensor, factor: float) -> Tensor:
        """One optimiser step on `images (N, C, H, W)` and `labels (N,)`, the peak learning rates times `factor`.

        Returns:
            `(2,)`: mean loss in nats and norm of the gradient before clipping; on the device, unread.
        """

    @abstractmethod
    def run_ranks(self, number: int, shares: Sequence[Share], world: World, factor: float) -> Tensor:
        """One optimiser step on the mean gradient of several ranks, of which this process carries out `shares`.

        Every process of the world has as many, and calls this for the same step.

        Returns:
            As `run` does, of all ranks.
        """

    @abstractmethod
    def forget(self, names: Sequence[str]) -> None:
        """Drop the moments of some parameters: they have started anew."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """The optimiser's state as named tensors: `<parameter>/<moment>`."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave, of any kind of step; copied."""


class PlainStep(Step):
    """One forward and backward pass a path through `Supernet.activate`, then AdamW."""

    def __init__(
        self,
        supernet: Supernet,
        optimizer: SupernetOptimizer,
        *,
        mixed: bool,
        label_smoothing: float,
        clip_norm: float,
        seed: int,
    ) -> None:
        """`mixed` runs the model under bfloat16 autocast; `seed` decides what the model drops."""
        self._supernet, self._optimizer = supernet, optimizer
        self._mixed, self._smoothing, self._clip, self._seed = mixed, label_smoothing, clip_norm, seed
        self._drops = bool(drop_probabilities(supernet))

    def run(self, number: int, paths: Sequence[Path], images: Tensor, labels: Tensor, factor: float) -> Tensor:
        """See `Step.run`."""
        self._optimizer.set_rates(factor)
        total = self._backward(number, Share(0, paths, images, labels))
        norm = self._optimizer.clip(self._clip)
        self._optimizer.step()
        return torch.stack([total, norm])

    def run_ranks(self, number: int, shares: Sequence[Share], world: World, factor: float) -> Tensor:
        """See `Step.run_ranks`; a parameter is stepped if the path of any rank drew it."""
        self._optimizer.set_rates(factor)
        rows: list[Tensor] = []
        for share in shares:
            loss = self._backward(number, share)
            rows.append(torch.cat([loss[None], self._optimizer.row()]))
        mean = world.sum(torch.stack(rows)) / (len(shares) * world.size)
        self._optimizer.set_row(mean[1:])
        norm = self._optimizer.clip(self._clip)
        self._optimizer.step()
        return torch.stack([mean[0], norm])

    def _backward(self, number: int, share: Share) -> Tensor:
        """Leave the gradients of a rank's paths in the parameters; returns the mean loss of the paths, a scalar."""
        paths, images, labels = share.paths, share.images, share.labels
        self._optimizer.zero_grad()
        total = torch.zeros((), device=images.device)
        teacher: Tensor | None = None
        for index, path in enumerate(paths):
            logits = self._forward(path, images, number, index, share.rank)
            loss = path_loss(logits, labels, teacher if path.distilled else None, smoothing=self._smoothing)
            if teacher is None and len(paths) > 1:
                teacher = teacher_of(logits)
            torch.autograd.backward(loss / len(paths))
            total += loss.detach() / len(paths)
        return total

    def forget(self, names: Sequence[str]) -> None:
        """See `Step.forget`."""
        self._optimizer.forget(names)

    def state(self) -> dict[str, Tensor]:
        """See `Step.state`."""
        return self._optimizer.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Step.load_state`."""
        self._optimizer.load_state(state)

    def _forward(self, path: Path, images: Tensor, number: int, index: int, rank: int) -> Tensor:
        device = images.device
        with (
            model_randomness(self._drops, self._seed, number, index, device, rank),
            self._supernet.activate(path.subnet),
            torch.autocast(device.type, torch.bfloat16, enabled=self._mixed),
        ):
            logits: Tensor = self._supernet(images)
        return logits
