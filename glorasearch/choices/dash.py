"""`dash:r:k`: LoRA-Dash (arXiv 2409.01035)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glorasearch.choices.base import Contribution, LowRank, Part, Site
from glorasearch.choices.directions import Directed, most_directions, task_directions
from glorasearch.choices.glora import xavier_uniform

if TYPE_CHECKING:
    from torch import Tensor


class Dash(Directed):
    """`W = W0 + s·B·A + U_k·diag(d)·V_kᵀ`: LoRA of rank r, and k directions of W0 with trained coefficients d.

    After the warm-up the k singular directions of W0 whose singular values `s·B·A` changes most, relatively, become
    `U_k` and `V_k`; d starts at zero. They are chosen once and stored with the weights.

    **In a supernet** the warm-up is counted per gene: it lasts until any `dash` of this support tensor has been drawn
    in `warmup` optimiser steps, and B·A is taken at the largest rank. Steps that drew other choices do not count, since
    B and A learned nothing from them. All ranks share one B·A and all k one list of directions, largest change first,
    so a smaller k is a prefix of a larger one. The choices drawn in other layers influence B·A as they influence every
    gradient of a supernet: the directions are those of the average subnet, which is what an inherited adapter has to
    serve. Trained alone, it is the published method.

    Options: `scale` is s, `warmup` the number of optimiser steps (100 as published). A fused qkv counts as three
    weights.
    """

    name = "dash"
    arguments = ("rank", "directions")

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """B, A and d; and, not trained, `U_k (out, k)` and `V_kᵀ (k, in)`, zero until the directions are chosen."""
        rank, count = largest["rank"], largest["directions"]
        ranks, counts = {"rank": -2}, {"directions": -2}
        return {
            "dash_down": Part((site.rows, rank), cut={"rank": -1}),
            "dash_up": Part((rank, site.columns), xavier_uniform(rank + site.columns), ranks),
            "dash_gains": Part((count,), cut={"directions": -1}),
            "dash_left": Part((site.rows, count), cut={"directions": -1}, trained=False),
            "dash_right": Part((count, site.columns), cut=counts, trained=False),
        }

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """One product of rank r + k."""
        import torch

        moved = parts["dash_left"] * parts["dash_gains"].unsqueeze(-2)
        left = torch.cat([site.options["scale"] * parts["dash_down"], moved], dim=-1)
        return Contribution(shift=LowRank(left, torch.cat([parts["dash_up"], parts["dash_right"]], dim=-2)))

    @classmethod
    def stepped(cls, draws: int, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> tuple[str, ...]:
        """Choose the directions when the warm-up ends; d had no gradient until then, so its moments are dropped."""
        if cls.ended(draws, site) != 1:
            return ()
        count = parts["dash_gains"].shape[-1]
        chosen = task_directions(base, parts["dash_down"], parts["dash_up"], count, site.layer.stacked)
        parts["dash_left"].copy_(chosen.left)
        parts["dash_right"].copy_(chosen.right)
        return ("dash_gains",)

    def check(self, site: Site) -> None:
        """A weight has as many directions as singular values."""
        self.at_most(site, "rank", min(site.rows, site.columns))
        self.at_most(site, "directions", most_directions(site.rows, site.columns, site.layer.stacked))
