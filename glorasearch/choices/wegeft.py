"""`wegeft:r`: weight-generative fine-tuning (WeGeFT, arXiv 2312.00700)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from glorasearch.choices.base import Choice, Contribution, LowRank, Options, Part, Site, uniform

if TYPE_CHECKING:
    from torch import Tensor


class Wegeft(Choice):
    """`W = W0 + s·W0·φ·ψ` with `φ (in, r)` and `ψ (r, in)`: A as a matrix product.

    It equals a LoRA whose `down` is `W0·φ (out, r)`, so no `(in, in)` product is ever formed; and it equals editing the
    layer's input, `x + x·ψᵀ·φᵀ`, so per layer it is RepAdapter without its bias, which C=`vector` adds. φ starts
    Kaiming uniform (a = √5), ψ at zero. ΔW is always formed from the original W0.

    φ and ψ belong to one layer, or with `share` to a group of layers with the same number of inputs. A group's factors
    learn from every layer that draws them; a member with a smaller rank uses their prefix, and one that draws another
    choice does not touch them. They are counted once, at the largest rank of any member.

    Deviations: the paper always shares φ and ψ, and its language recipe (φ zeros, s = α/r) is not offered.
    """

    name = "wegeft"
    tensors = "A"
    arguments = ("rank",)
    defaults: ClassVar[Options] = {"scale": 1.0}
    positive = ("scale",)
    shareable = True

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """`phi (in, r)` and `psi (r, in)`."""
        rank, inputs = largest["rank"], site.layer.in_features
        kaiming = partial(uniform, bound=inputs**-0.5)  # kaiming_uniform_ with a = √5 of a fan-in: that of `in`
        return {
            "phi": Part((inputs, rank), kaiming, {"rank": -1}),
            "psi": Part((rank, inputs), cut={"rank": -2}),
        }

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """The weight is shifted by `(s·W0·φ)·ψ`."""
        return Contribution(shift=LowRank(base @ (site.options["scale"] * parts["phi"]), parts["psi"]))

    def check(self, site: Site) -> None:
        """φ·ψ is `(in, in)`: a rank may be as large as `in`."""
        self.at_most(site, "rank", site.layer.in_features)
