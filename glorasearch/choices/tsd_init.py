"""`tsd_init:r`: LoRA-Init, a LoRA that starts along task-specific directions (arXiv 2409.01035)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glorasearch.choices.base import Contribution, LowRank, Part, Site
from glorasearch.choices.directions import Directed, most_directions, task_directions
from glorasearch.choices.lora import xavier_uniform

if TYPE_CHECKING:
    from torch import Tensor


class TsdInit(Directed):
    """`W = W_res + s·B·A` with `B = U_r·√(σ_r/s)`, `A = √(σ_r/s)·V_rᵀ` and `W_res = W0 − s·B·A` of that start.

    During the warm-up it is a LoRA of rank r. Then the r singular directions of W0 that it changed most, relatively,
    are chosen, what it learned is dropped, B and A start anew along them, and the optimiser forgets their moments: the
    layer is the original one again at that moment.

    **In a supernet** the warm-up belongs to the option, as with `dash`: it ends when some `tsd_init` of this support
    tensor was drawn in `warmup` optimiser steps. Directions stand in the order of their change, so a smaller rank is a
    prefix of a larger one.

    A refit that goes on from inherited weights never starts anew (`Supernet.hold_restarts`): a winner whose warm-up the
    supernet's training did not end was scored as a plain LoRA and stays one.

    Options: `scale` is s, `warmup` the optimiser steps. The published figure shows W_res but not how σ is split between
    the factors: evenly, here.
    """

    kind = "tsd_init"
    arguments = ("rank",)
    restarts = True

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """B and A; and, not trained, what they started from, which is taken off W0."""
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

        Written so, what is small stays small: the start is a no-op to the bit, and neither bfloat16 nor the sum of two
        products as large as W0 itself rounds away what has been learned.
        """
        import torch

        scale, start = site.options["scale"], parts["init_start_down"]
        left = torch.cat([parts["init_down"] - start, start], dim=-1)
        right = torch.cat([parts["init_up"], parts["init_up"] - parts["init_start_up"]], dim=-2)
        return Contribution(shift=LowRank(scale * left, right))

    @classmethod
    def stepped(cls, draws: int, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> tuple[str, ...]:
        """Start anew along the directions when the warm-up ends."""
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
        """There are as many directions as singular values."""
        limit = min(min(site.rows, site.columns), most_directions(site.rows, site.columns, site.layer.stacked))
        self.at_most(site, "rank", limit)

    def lora_rank(self, tensor: str) -> int | None:
        """2r against W0: the factors, and those that they started from."""
        return 2 * self.rank
