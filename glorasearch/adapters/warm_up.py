"""The choices of a supernet that count the optimiser steps that drew them, and act when their warm-up ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor

from glorasearch.adapters.layer import AdaptedLayer
from glorasearch.adapters.support import SupportTensor
from glorasearch.space import Subnet

HELD: Final = -1
"""In place of the number of draws of a choice class that no longer counts them."""


class WarmUps:
    """The numbers of draws are kept by the support tensors; their names are those in `Supernet.adapter_state`."""

    def __init__(self, adapted: Mapping[str, AdaptedLayer]) -> None:
        self._adapted = adapted
        self._counts: dict[str, tuple[SupportTensor, str]] = {
            f"{name}.{tensor}.{choice}_draws": (layer.support_of(tensor), choice)
            for name, layer in adapted.items()
            for tensor in layer.support
            for choice in layer.support_of(tensor).draws
        }
        self._counting = {choice for _, choice in self._counts.values()}

    @torch.no_grad()
    def step(self, subnets: Iterable[Subnet]) -> list[str]:
        """Count an optimiser step that drew these subnets, and let the choices act whose warm-up ends.

        Returns:
            The parameters, named as in `Supernet.adapter_state`, that were reset: the optimiser must drop their
            moments.
        """
        if not self._counting:
            return []
        drawn = {
            (layer, tensor, name)
            for subnet in subnets
            for (layer, tensor), choice in subnet.items()
            if (name := choice.partition(":")[0]) in self._counting
        }
        reset: list[str] = []
        for layer, tensor, name in sorted(drawn):
            adapted = self._adapted[layer]
            parts = adapted.support_of(tensor).stepped(name, adapted.weight_view)
            reset += [f"{layer}.{tensor}.{part}" for part in parts]
        return reset

    def draws(self) -> dict[str, int]:
        """The optimiser steps that drew each choice class that counts them."""
        return {name: support.draws[choice] for name, (support, choice) in self._counts.items()}

    def running(self, since: Mapping[str, int]) -> dict[str, int]:
        """Choice classes drawn since `draws` returned `since` whose warm-up still runs → in how many genes."""
        found: dict[str, int] = {}
        for name, (support, choice) in self._counts.items():
            if support.draws[choice] > since[name] and self._runs(support, choice):
                found[choice] = found.get(choice, 0) + 1
        return found

    def hold_restarts(self) -> None:
        """From now on no choice discards what it has learned: if its warm-up still runs, it stays as it is for good.

        For a training that continues from a subnet that was scored in this state.
        """
        for support, choice in self._counts.values():
            if support.offered[choice].choice_class.restarts and self._runs(support, choice):
                support.draws[choice] = HELD

    def state(self) -> dict[str, Tensor]:
        """The numbers of draws as tensors `(1,)`."""
        return {name: torch.tensor([count]) for name, count in self.draws().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over the numbers of draws of an adapter state."""
        self.go_on({name: int(state[name].item()) for name in self._counts})

    def go_on(self, draws: Mapping[str, int]) -> None:
        """Go on from a result of `draws`."""
        for name, (support, choice) in self._counts.items():
            support.draws[choice] = draws[name]

    def _runs(self, support: SupportTensor, choice: str) -> bool:
        offered = support.offered[choice]
        return offered.choice_class.warming(support.draws[choice], offered.site)
