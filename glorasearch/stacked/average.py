"""The moving averages of the weights of a stack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from glorasearch.stacked.store import Store
from glorasearch.training.average import decay_of


class StackedAverage:
    """As `WeightAverage`, of all members at once: one flat buffer beside `Store.theta`, and none if the decay is 0."""

    def __init__(self, store: Store, decay: float) -> None:
        """The average begins with the present weights."""
        self._store, self._decay = store, decay
        self._flat = store.theta[: None if decay else 0].clone()

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, from 0."""
        if self._decay:
            self._flat.lerp_(self._store.theta, 1 - decay_of(self._decay, step))

    @torch.no_grad()
    def restart(self, member: int, names: Iterable[str]) -> None:
        """Begin anew with the present weights of some tensors of a member, which have been initialised again."""
        for name in names if self._decay else ():
            place = self._store.place(member, name)
            self._flat[place] = self._store.theta[place]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside the `with` the members have the averages; afterwards their own weights again."""
        if not self._decay:
            yield
            return
        theta = self._store.theta
        own = theta.clone()
        theta.copy_(self._flat)
        try:
            yield
        finally:
            theta.copy_(own)

    def state(self) -> dict[str, Tensor]:
        """The average, `(P,)`; nothing if the decay is 0."""
        return {"average": self._flat} if self._decay else {}
