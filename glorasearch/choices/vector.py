"""`vector`: one value for every row of a support tensor (GLoRA, arXiv 2306.07967)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glorasearch.choices.base import Choice, Contribution, Part, Site

if TYPE_CHECKING:
    from torch import Tensor


class Vector(Choice):
    """One value a row, zeros at the start: BitFit is E=`vector`, SSF A, D and E=`vector`.

    IA3 on a layer's outputs is A=`vector`, and where there is a bias D=`vector` of the same values.
    """

    kind = "vector"
    tensors = "ABCDE"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """`vector (rows,)`."""
        return {"vector": Part((site.rows,), rate="vector")}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """The values."""
        return site.role(parts["vector"])

    def lora_rank(self, tensor: str) -> int | None:
        """A shift of whole rows is a product of rank one; a scale of W0 is as full as W0 is."""
        return {"A": None, "B": 1}.get(tensor, 0)
