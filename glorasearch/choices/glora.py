"""GLoRA's own forms of a support tensor: `none`, `constant`, `vector` and `lora:r` (arXiv 2306.07967)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from glorasearch.choices.base import Choice, Contribution, LowRank, Part, Site, uniform

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Nothing(Choice):
    """Adds nothing and costs nothing."""

    name = "none"
    tensors = norms = "ABCDE"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """No parts."""
        return {}

    @classmethod
    def gives_bias(cls, tensor: str) -> bool:
        """No."""
        return False

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """Nothing."""
        return Contribution()


class Constant(Choice):
    """One value, zero at the start, that scales or shifts the whole weight or the whole bias."""

    name = "constant"
    tensors = "ABDE"
    norms = "ADE"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """`constant (1,)`."""
        return {"constant": Part((1,), rate="vector")}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """The value, for every row."""
        return site.role(parts["constant"])


class Vector(Choice):
    """One value per row, zeros at the start: BitFit is E=`vector`, SSF A, D and E=`vector`.

    IA3 on a layer's outputs is A=`vector`, and where there is a bias D=`vector` of the same values.
    """

    name = "vector"
    tensors = "ABCDE"
    norms = "ADE"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """`vector (rows,)`."""
        return {"vector": Part((site.rows,), rate="vector")}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """The values."""
        return site.role(parts["vector"])


class Lora(Choice):
    """`down · up`, `(rows, r)` zeros times `(r, columns)` Xavier uniform; a smaller rank is a prefix of a larger one.

    In B it is LoRA (arXiv 2106.09685) with scale 1. In A the product scales W0 entry by entry, in C it is a prompt.
    """

    name = "lora"
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


def xavier_uniform(fans: int) -> Callable[[Tensor, Generator], object]:
    """Uniform within √(6 / fans), `fans` being fan-in plus fan-out."""
    return partial(uniform, bound=(6 / fans) ** 0.5)
