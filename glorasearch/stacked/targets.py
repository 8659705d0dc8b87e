"""What the members of a stack learn from: labelled images, or mixed images with soft targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glorasearch.data import TrainSplit
from glorasearch.errors import ConfigError
from glorasearch.stacked.member import Member
from glorasearch.tasks.base import Task
from glorasearch.training.augment import Augmentation, AugmentedBatches
from glorasearch.training.balance import check_balance, class_weights
from glorasearch.training.sampling import BatchOrder
from glorasearch.weights import tensor_digest


@dataclass(frozen=True, kw_only=True, eq=False)
class MixedImages:
    """Pairs of images of a split, mixed, and what a model should answer: `share · first + (1 − share) · second`.

    An original image is a pair of itself with share 1. The images are mixed on the device, in each step.
    """

    first: Tensor
    """`(K,)` positions in the split."""
    second: Tensor
    """`(K,)` positions in the split."""
    share: Tensor
    """`(K,)` from 0 to 1."""
    targets: Tensor
    """`(K, classes)` probabilities, as the split's task has them."""

    def __len__(self) -> int:
        return len(self.first)

    @property
    def digest(self) -> str:
        """SHA-256 of everything, hexadecimal."""
        return tensor_digest({"first": self.first, "second": self.second, "share": self.share, "targets": self.targets})

    def check(self, images: int, task: Task) -> None:
        """Raise `ConfigError` unless it fits a split of so many images and their task."""
        lengths = {name: len(getattr(self, name)) for name in ("first", "second", "share", "targets")}
        if len(set(lengths.values())) > 1 or not len(self):
            raise ConfigError(f"mixed images: lengths differ or are zero ({lengths}); give one entry an image")
        for positions in (self.first, self.second):
            if not 0 <= int(positions.min()) <= int(positions.max()) < images:
                raise ConfigError(f"mixed images: positions must be from 0 to {images - 1}, those of the split")
        if not (bool((self.share >= 0).all()) and bool((self.share <= 1).all())):
            raise ConfigError("mixed images: a share is not from 0 to 1")
        fault = task.answers_fault(self.targets)
        if fault is not None:
            raise ConfigError(f"mixed images: {fault}")


class Batches:
    """The images of every member in every step: a pure function of the members' seeds and the step."""

    def __init__(self, members: Sequence[Member], data: TrainSplit, mixed: MixedImages | None) -> None:
        for member in members:
            check_balance(member.config, data.task)
        self._data, self._mixed = data, mixed
        self._images = [member.images.to("cpu", torch.int64) for member in members]
        self._balance = [member.config.balance for member in members]
        self._targets = data.labels if mixed is None else mixed.targets.cpu()
        labels = self._targets if mixed is None else self._targets.argmax(-1)
        self._seeds = [member.config.seed for member in members]
        self._groups = _groups(members, data)
        self._orders = [
            BatchOrder(
                len(images),
                member.config.batch_size,
                member.config.seed,
                labels[images] if member.config.balance == "sampler" else None,
            )
            for images, member in zip(self._images, members, strict=True)
        ]

    @property
    def facts(self) -> dict[str, Any]:
        """What the images depend on besides recipes and split."""
        augmented = [batches.facts for batches, _ in self._groups if batches is not None]
        return augmented[0] if augmented else {}

    @property
    def class_weights(self) -> Tensor | None:
        """`(M, classes)`, by the images of each member; None if no member weights its loss."""
        if "loss" not in self._balance:
            return None
        classes = self._data.classes
        return torch.stack(
            [
                class_weights(self._targets[images], classes) if balance == "loss" else torch.ones(classes)
                for images, balance in zip(self._images, self._balance, strict=True)
            ]
        )

    def positions(self, step: int) -> Tensor:
        """`(M, B)`: which images the members see in a step."""
        return torch.stack(
            [images[order.indices(step)] for images, order in zip(self._images, self._orders, strict=True)]
        )

    def batch(self, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images `(M · B, C, H, W)`, member by member, and targets `(M, B, ...)` or probabilities `(M, B, classes)`."""
        positions = self.positions(step)
        parts = [self._part(step, positions[numbers], numbers, batches, device) for batches, numbers in self._groups]
        if len(parts) == 1:
            return parts[0]
        places = torch.tensor([number for _, numbers in self._groups for number in numbers]).argsort()
        targets = [targets for _, targets in parts]
        if len({one.ndim for one in targets}) > 1:  # labels of some, probabilities of others
            classes = self._data.classes
            targets = [F.one_hot(one, classes).float() if one.ndim == 2 else one for one in targets]
        images = torch.cat([images.view(-1, positions.shape[1], *images.shape[1:]) for images, _ in parts])
        return images[places.to(device)].flatten(0, 1), torch.cat(targets)[places.to(device)]

    def _part(
        self,
        step: int,
        positions: Tensor,
        numbers: Sequence[int],
        augmented: AugmentedBatches | None,
        device: torch.device,
    ) -> tuple[Tensor, Tensor]:
        """The batch of some members, at positions `(m, B)`, whose images are augmented alike."""
        seeds, mixed, data = [self._seeds[number] for number in numbers], self._mixed, self._data
        if mixed is not None:
            pairs = [mixed.first[positions], mixed.second[positions]]
            if augmented is None:
                first, second = (data.batch(one.flatten(), device)[0] for one in pairs)
            else:
                first, second = augmented.images(seeds, step, pairs, device)
            share = mixed.share[positions.flatten()].to(first).view(-1, 1, 1, 1)
            return share * first + (1 - share) * second, mixed.targets[positions].to(device)
        if augmented is None:
            images, targets = data.batch(positions.flatten(), device)
        else:
            images, targets = augmented.members(seeds, step, positions, device)
        return images, targets.view(*positions.shape, *targets.shape[1:])


def _groups(members: Sequence[Member], data: TrainSplit) -> list[tuple[AugmentedBatches | None, list[int]]]:
    """The members, by their numbers, whose images are augmented alike."""
    found: dict[Augmentation, list[int]] = {}
    for number, member in enumerate(members):
        found.setdefault(member.config.augmentation, []).append(number)
    return [(AugmentedBatches.of(augmentation, data), numbers) for augmentation, numbers in found.items()]
