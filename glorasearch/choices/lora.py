"""`lora:r`: a product of rank r (LoRA, arXiv 2106.09685; GLoRA, arXiv 2306.07967)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from glorasearch.choices.base import Choice, Contribution, LowRank, Part, Site, uniform

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Lora(Choice):
    """`down · up`, `(rows, r)` zeros times `(r, columns)` Xavier uniform; a smaller rank is a prefix of a larger one.

    In B it is LoRA with scale 1. In A the product scales W0 entry by entry, in C it is a prompt.
    """

    kind = "lora"
    tensors = "ABC"
    arguments = ("rank",)

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """`down (rows, r)` and `up (r, columns)`."""
        rank = largest["rank"]
        return {
            "down": Part((site.rows, rank), cut={"rank": -1}),
            "up": Part((rank, site.columns), xavier_uniform(rank + site.columns), {"rank": -2}),
        }

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """The product."""
        return site.role(LowRank(parts["down"], parts["up"]))

    def lora_rank(self, tensor: str) -> int | None:
        """r in B, where it is LoRA itself; a product of A with W0 is generally full."""
        return {"A": None, "B": self.rank}.get(tensor, 0)


def xavier_uniform(fans: int) -> Callable[[Tensor, Generator], object]:
    """Uniform within √(6 / fans), `fans` being fan-in plus fan-out."""
    return partial(uniform, bound=(6 / fans) ** 0.5)
