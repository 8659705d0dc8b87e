"""`gain`: scale the outputs of a layer (SSF, arXiv 2210.08823)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glorasearch.choices.base import Choice, Contribution, Part, Site

if TYPE_CHECKING:
    from torch import Tensor


class Gain(Choice):
    """`y ⊙ (1 + a)`: one value per row, zeros at the start, that scales W0 and b0 alike.

    With E=`vector` it is SSF, `y ⊙ (1 + a) + e`. A=`vector` with D=`vector` has two vectors for that, and A=`vector`
    alone scales W0 only.

    Deviation: the published scale and shift start at N(1, 0.02²) and N(0, 0.02²); here the start is a no-op.
    """

    name = "gain"
    tensors = norms = "A"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """`gain (out,)`."""
        return {"gain": Part((site.rows,), rate="vector")}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """A scale of the weight's rows, and of the bias where there is one."""
        gain = parts["gain"]
        return Contribution(scale=gain, bias_scale=gain if site.layer.bias else None)
