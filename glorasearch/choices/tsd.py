"""`tsd:r:k`: LoRA-TSD, LoRA-Init and then LoRA-Dash (arXiv 2409.01035)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glorasearch.choices.base import Contribution, LowRank, Part, Site
from glorasearch.choices.dash import Dash
from glorasearch.choices.directions import Directed, task_directions
from glorasearch.choices.tsd_init import TsdInit

if TYPE_CHECKING:
    from torch import Tensor


class Tsd(Directed):
    """`W = W0 − s·B0·A0 + s·B·A + U_k·diag(d)·V_kᵀ`: a LoRA that starts along r directions, and k that move.

    When the warm-up ends B and A start anew as those of `tsd_init`; after as many steps again the k directions are
    chosen as those of `dash`, from what has been learned since: ΔW = s·(B·A − B0·A0). Warm-ups are counted as there.

    Options: `scale` is s, `warmup` the optimiser steps of each of the two phases.
    """

    kind = "tsd"
    arguments = ("rank", "directions")
    phases = 2
    restarts = True

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """Those of `tsd_init` and `dash`, one B and A for both."""
        started = TsdInit.parts(site, rank=largest["rank"])
        moved = Dash.parts(site, **largest)
        names = {"dash_gains", "dash_left", "dash_right"}
        own = {name.replace("init_", "tsd_"): part for name, part in started.items()}
        return own | {name.replace("dash_", "tsd_"): part for name, part in moved.items() if name in names}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """One product of rank 2r + k."""
        import torch

        left, right = TsdInit.contribution(_as(parts, "init_"), base, site).shift  # type: ignore[misc]
        moved = parts["tsd_left"] * parts["tsd_gains"].unsqueeze(-2)
        both = torch.cat([left, moved], dim=-1), torch.cat([right, parts["tsd_right"]], dim=-2)
        return Contribution(shift=LowRank(*both))

    @classmethod
    def stepped(cls, draws: int, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> tuple[str, ...]:
        """The start along directions after the first warm-up, the choice of those that move after the second."""
        if cls.ended(draws, site) == 2:
            shift = TsdInit.contribution(_as(parts, "init_"), base, site).shift
            assert isinstance(shift, LowRank)
            chosen = task_directions(base, shift.down, shift.up, parts["tsd_gains"].shape[-1], site.layer.stacked)
            parts["tsd_left"].copy_(chosen.left)
            parts["tsd_right"].copy_(chosen.right)
            return ("tsd_gains",)
        started = TsdInit.stepped(draws, _as(parts, "init_"), base, site)
        return tuple(name.replace("init_", "tsd_") for name in started)

    def check(self, site: Site) -> None:
        """As for `tsd_init` and `dash`."""
        TsdInit((self.rank,)).check(site)
        Dash(self.values).check(site)

    def lora_rank(self, tensor: str) -> int | None:
        """2r + k against W0."""
        return 2 * self.values[0] + self.values[1]


def _as(parts: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.replace("tsd_", prefix): value for name, value in parts.items()}
