"""The states of several trainings over one pool, one of which is in it at a time."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from glorasearch.fused.optimizer import FlatAdamW
from glorasearch.fused.pool import Pool


class Rows:
    """For each of M trainings a row with its weights, moments and numbers of steps: copies of what a step changes.

    The buffers of pool and optimiser stay where they are, so one captured step serves all.
    """

    def __init__(self, pool: Pool, optimizer: FlatAdamW, count: int) -> None:
        """All rows are what pool and optimiser hold now."""
        self._live = {
            "weights": pool.flat,
            "mean": optimizer.mean,
            "square": optimizer.square,
            "steps": optimizer.steps,
        }
        self._rows = {name: value.repeat(count, 1) for name, value in self._live.items()}
        self.present: int | None = None
        """Whose state pool and optimiser hold; its row is what it was at `keep`."""

    @torch.no_grad()
    def keep(self) -> None:
        """Copy the present state into its row."""
        if self.present is not None:
            for name, row in self._rows.items():
                row[self.present].copy_(self._live[name])

    @torch.no_grad()
    def take(self, number: int) -> None:
        """Copy a row into pool and optimiser, whose state is lost unless it was kept."""
        for name, row in self._rows.items():
            self._live[name].copy_(row[number])
        self.present = number

    def state(self) -> dict[str, Tensor]:
        """All rows, the present state in its own: `weights`, `mean` and `square (M, P)`, `steps (M, S)`."""
        self.keep()
        return dict(self._rows)

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a copy of a result of `state`; none is present then."""
        for name, row in self._rows.items():
            row.copy_(state[name])
        self.present = None
