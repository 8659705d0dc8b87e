"""`constant`: one value for a whole support tensor (GLoRA, arXiv 2306.07967)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glorasearch.choices.base import Choice, Contribution, Part, Site

if TYPE_CHECKING:
    from torch import Tensor


class Constant(Choice):
    """One value, zero at the start: scales or shifts the whole weight, or the whole bias, alike."""

    kind = "constant"
    tensors = "ABDE"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """`constant (1,)`."""
        return {"constant": Part((1,), rate="vector")}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """The value, for every row."""
        return site.role(parts["constant"])

    def lora_rank(self, tensor: str) -> int | None:
        """A shift of all entries is a product of rank one; a scale of W0 is as full as W0 is."""
        return {"A": None, "B": 1}.get(tensor, 0)
