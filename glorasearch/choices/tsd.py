"""`tsd_init:r` and `tsd:r:k`: LoRA-Init, and LoRA-TSD, which is LoRA-Init and then LoRA-Dash (arXiv 2409.01035)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glorasearch.choices.base import Contribution, LowRank, Part, Site
from glorasearch.choices.dash import Dash
from glorasearch.choices.directions import Directed, most_directions, task_directions
from glorasearch.choices.glora import xavier_uniform

if TYPE_CHECKING:
    from torch import Tensor


class TsdInit(Directed):
    """`W = W_res + s·B·A` with `B = U_r·√(σ_r/s)`, `A = √(σ_r/s)·V_rᵀ` and `W_res = W0 − s·B·A` of that start.

    During the warm-up it is a LoRA of rank r. Then the r singular directions of W0 that it changed most, relatively,
    are chosen, what it learned is discarded, B and A are reset along these directions, and the optimiser drops their
    moments: at that moment the layer is the original one again.

    **In a supernet** the warm-up is counted per gene, as for `dash`: it ends when any `tsd_init` of this support tensor
    has been drawn in `warmup` optimiser steps. Directions are sorted by their change, so a smaller rank is a prefix of
    a larger one.

    A refit from inherited weights is never reset (`WarmUps.hold_restarts`): a winner whose warm-up had not ended in the
    supernet's training was scored as a plain LoRA and stays one.

    Options: `scale` is s, `warmup` the number of optimiser steps. The published figure shows W_res but not how σ is
    split between the factors; here it is split evenly.
    """

    name = "tsd_init"
    arguments = ("rank",)
    restarts = True

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """B and A; and, not trained, their starting values, which are subtracted from W0."""
        rank = largest["rank"]
        return {
            "init_down": Part((site.rows, rank), cut={"rank": -1}),
            "init_up": Part((rank, site.columns), xavier_uniform(rank + site.columns), {"rank": -2}),
            "init_start_down": Part((site.rows, rank), cut={"rank": -1}, trained=False),
            "init_start_up": Part((rank, site.columns), cut={"rank": -2}, trained=False),
        }

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """One product of rank 2r: B·A − B0·A0 as (B − B0)·A + B0·(A − A0).

        In this form small terms stay small: the start is a no-op to the bit, and what has been learned is rounded away
        neither by bfloat16 nor in the sum of two products as large as W0 itself.
        """
        import torch

        scale, start = site.options["scale"], parts["init_start_down"]
        left = torch.cat([parts["init_down"] - start, start], dim=-1)
        right = torch.cat([parts["init_up"], parts["init_up"] - parts["init_start_up"]], dim=-2)
        return Contribution(shift=LowRank(scale * left, right))

    @classmethod
    def stepped(cls, draws: int, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> tuple[str, ...]:
        """Reset B and A along the directions when the warm-up ends."""
        if cls.ended(draws, site) != 1:
            return ()
        down, up = parts["init_down"], parts["init_up"]
        chosen = task_directions(base, down, up, down.shape[-1], site.layer.stacked)
        root = (chosen.values / site.options["scale"]).sqrt()
        for name, value in (("down", chosen.left * root), ("up", root[:, None] * chosen.right)):
            parts[f"init_{name}"].copy_(value)
            parts[f"init_start_{name}"].copy_(value)
        return "init_down", "init_up"

    def check(self, site: Site) -> None:
        """A weight has as many directions as singular values."""
        limit = min(min(site.rows, site.columns), most_directions(site.rows, site.columns, site.layer.stacked))
        self.at_most(site, "rank", limit)


class Tsd(Directed):
    """`W = W0 − s·B0·A0 + s·B·A + U_k·diag(d)·V_kᵀ`: a LoRA that starts along r directions, and k trained directions.

    When the warm-up ends, B and A are reset as in `tsd_init`; after as many steps again the k directions are chosen as
    in `dash`, from what has been learned since: ΔW = s·(B·A − B0·A0). Warm-ups are counted as there.

    Options: `scale` is s, `warmup` the number of optimiser steps of each of the two phases.
    """

    name = "tsd"
    arguments = ("rank", "directions")
    phases = 2
    restarts = True

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """The parts of `tsd_init` and `dash`, with one B and A for both."""
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
        """Reset B and A after the first warm-up, choose the k directions after the second."""
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
        """The limits of `tsd_init` and `dash`."""
        TsdInit((self.rank,)).check(site)
        Dash(self.values).check(site)


def _as(parts: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.replace("tsd_", prefix): value for name, value in parts.items()}
