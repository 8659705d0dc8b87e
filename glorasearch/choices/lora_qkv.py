"""`lora_qkv:r`: LoRA with a pair of factors for each of query, key and value (arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from glorasearch.choices.base import Choice, Contribution, LowRank, Part, Site, uniform

if TYPE_CHECKING:
    from torch import Tensor


class LoraQkv(Choice):
    """`W_i = W0_i + B_i·A_i` for each of the weights that are stacked in a layer: three in a fused qkv, else one.

    That is LoRA as published for models whose q, k and v are layers of their own; `lora:r` has one A for all three. A
    starts as published, Kaiming uniform (a = √5), B at zero; the scale is 1. `lora` starts A Xavier uniform, which is
    larger: by a factor of 2.4 at 768 inputs and rank 4.
    """

    name = "lora_qkv"
    tensors = "B"
    arguments = ("rank",)

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """`qkv_down (out, r)`, a B_i above the other, and `qkv_up (3, r, in)`."""
        rank, inputs = largest["rank"], site.layer.in_features
        kaiming = partial(uniform, bound=inputs**-0.5)  # kaiming_uniform_ with a = √5 of a fan-in: that of `in`
        return {
            "qkv_down": Part((site.rows, rank), cut={"rank": -1}),
            "qkv_up": Part((site.layer.stacked, rank, inputs), kaiming, {"rank": -2}),
        }

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """One product of rank 3r, whose left factor is block-diagonal."""
        import torch

        down, up, count = parts["qkv_down"], parts["qkv_up"], site.layer.stacked
        own = torch.eye(count, dtype=down.dtype, device=down.device).repeat_interleave(site.rows // count, dim=0)
        left = (down.unsqueeze(-2) * own[..., None]).flatten(-2)  # (out, 3, r), zero in the columns of other blocks
        return Contribution(shift=LowRank(left, up.flatten(-3, -2)))

    def check(self, site: Site) -> None:
        """Each of the stacked weights must allow the rank."""
        self.at_most(site, "rank", min(site.rows // site.layer.stacked, site.columns))
