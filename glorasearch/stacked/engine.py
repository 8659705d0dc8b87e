"""What carries out the steps of a stack, whichever way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor

from glorasearch.training.memory import Kept


class Engine(ABC):
    """Holds the weights and the optimiser's state of M members, and performs their steps."""

    kind: str
    """For the identity of a checkpoint."""

    @abstractmethod
    def step(self, number: int, images: Tensor, targets: Tensor, scales: Sequence[float]) -> Tensor:
        """One optimiser step of every member.

        Args:
            number: of the step, from 0.
            images: `(M · B, C, H, W)`, member by member.
            targets: of the task, `(M, B, ...)`, or probabilities `(M, B, classes)`.
            scales: for each member the factor on its peak learning rates.

        Returns:
            `(M, 2)`: loss in nats and norm of the gradient before clipping, on the device (not synchronised).
        """

    @abstractmethod
    def recompute(self) -> None:
        """From the next step on, compute the activations of the model's blocks again in the backward pass."""

    @abstractmethod
    def kept(self, images: Tensor) -> Kept:
        """What a forward pass of a step keeps of `images (M · n, C, H, W)`."""

    @property
    @abstractmethod
    def fixed_bytes(self) -> int:
        """Bytes that a step needs besides, for gradients and their temporaries."""

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """`(M, n, classes)` float32 of `images (M · n, C, H, W)`, in evaluation mode."""

    @abstractmethod
    def member_state(self, member: int) -> dict[str, Tensor]:
        """What training has changed of a member's adapter state; the rest is as it was at its start."""

    @abstractmethod
    def finite(self) -> Tensor:
        """`(M,)` on the CPU: whether all numbers of each `member_state` are finite."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything that a step changes, as named tensors."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a copy of a result of `state` of this kind of engine."""

    @abstractmethod
    def warming(self) -> dict[str, int]:
        """Choice classes that trained members use and whose warm-up still runs → in how many places."""
