"""`repadapter:r`: a linear adapter in front of a layer (RepAdapter, arXiv 2302.08106)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from glorasearch.choices.base import Choice, Contribution, LowRank, Options, Part, Site
from glorasearch.choices.glora import xavier_uniform
from glorasearch.errors import SearchSpaceError

if TYPE_CHECKING:
    from torch import Tensor


class RepAdapter(Choice):
    """`x + s·(U·(D·x + d) + u)` in front of a layer, merged into it: `W = W0 + s·W0·U·D`, `b = b0 + s·W0·(U·d + u)`.

    D `(r, in)` starts Xavier uniform, U `(in, r)` and the two biases at zero. U has groups, as a grouped convolution:
    hidden unit h feeds only the `in / groups` inputs of group `h mod groups`, so U has `in·r / groups` parameters. A
    smaller rank is a prefix of a larger one. As published it stands on what reads its adapters: `qkv` and `fc1`.

    Options: `scale` is s, `groups` those of U.

    Deviation: the published code numbers the groups' hidden units group by group, which is another order of the same.
    Its dropout between D and U is not part of the choice.
    """

    name = "repadapter"
    tensors = "A"
    arguments = ("rank",)
    defaults: ClassVar[Options] = {"scale": 1.0, "groups": 2.0}
    positive = ("scale",)
    whole: ClassVar[Mapping[str, int]] = {"groups": 1}

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """`rep_down (r, in)` and `rep_up (r, in / groups)`, and their biases `(r,)` and `(in,)`."""
        rank, inputs = largest["rank"], site.layer.in_features
        rows, each = {"rank": -2}, inputs // _groups(site)
        return {
            "rep_down": Part((rank, inputs), xavier_uniform(rank + inputs), rows),
            "rep_down_bias": Part((rank,), cut={"rank": -1}, rate="vector"),
            "rep_up": Part((rank, each), cut=rows),
            "rep_up_bias": Part((inputs,), rate="vector"),
        }

    @classmethod
    def gives_bias(cls, tensor: str) -> bool:
        """Its biases are seen through W0."""
        return True

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """The weight is shifted by `(s·W0·U)·D`, and W0 sees `s·(U·d + u)`."""
        import torch

        up, groups, scale = parts["rep_up"], _groups(site), site.options["scale"]
        member = torch.arange(up.shape[-2], device=up.device)[:, None] % groups == torch.arange(
            groups, device=up.device
        )
        whole = (up.unsqueeze(-2) * member.to(up.dtype)[..., None]).flatten(-2).mT  # U (in, r)
        through = (whole @ parts["rep_down_bias"].unsqueeze(-1)).squeeze(-1)
        return Contribution(
            shift=LowRank(base @ (scale * whole), parts["rep_down"]),
            prompt=scale * (through + parts["rep_up_bias"]),
        )

    def check(self, site: Site) -> None:
        """A rank may be as large as `in`, which the groups must divide."""
        self.at_most(site, "rank", site.layer.in_features)
        if site.layer.in_features % _groups(site):
            raise SearchSpaceError(
                f"choices.{site.tensor}: {str(self)!r} has {_groups(site)} groups, which do not divide the "
                f"{site.layer.in_features} inputs of layer {site.layer.name}; set options.repadapter.groups, such as 1"
            )


def _groups(site: Site) -> int:
    return int(site.options["groups"])
