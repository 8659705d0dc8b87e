"""The moving average of the weights of a training, which takes their place at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from glorasearch.supernet import Supernet


def decay_of(decay: float, step: int) -> float:
    """The share of the average that step `step`, from 0, leaves: less at first, so that it forgets where it began."""
    return min(decay, (1 + step) / (10 + step))


class WeightAverage:
    """The exponential moving average of all that a supernet trains, beside the weights; of none if the decay is 0.

    After every step each parameter counts, drawn or not. The tensors stay where they are, and nothing waits for the
    device: a captured step may change the weights.
    """

    def __init__(self, supernet: Supernet, decay: float) -> None:
        """The average begins with the supernet's present weights."""
        self._decay = decay
        self._named: dict[str, nn.Parameter] = {}
        if decay:
            self._named = supernet.adapter_parameters() | supernet.head_parameters()
        self._weights: list[Tensor] = list(self._named.values())
        self._averages = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self, step: int, restarted: Sequence[str] = ()) -> None:
        """Take in the weights after step `step`, from 0; of parameters that were initialised again only these."""
        if not self._named:
            return
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay_of(self._decay, step))
        places = {name: place for place, name in enumerate(self._named)} if restarted else {}
        for name in restarted:
            self._averages[places[name]].copy_(self._weights[places[name]])

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside the `with` the supernet has the averages; afterwards its own weights again."""
        own = [weight.detach().clone() for weight in self._weights]
        self.take()
        try:
            yield
        finally:
            _copy(self._weights, own)

    def take(self) -> None:
        """Give the supernet the averages for good."""
        _copy(self._weights, self._averages)

    def state(self) -> dict[str, Tensor]:
        """Parameter → its average."""
        return dict(zip(self._named, self._averages, strict=True))

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a copy of a result of `state`."""
        _copy(self._averages, [state[name] for name in self._named])


@torch.no_grad()
def _copy(into: list[Tensor], values: list[Tensor]) -> None:
    for place, value in zip(into, values, strict=True):
        place.copy_(value)
