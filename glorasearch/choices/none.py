"""`none`: the support tensor is not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glorasearch.choices.base import Choice, Contribution, Part, Site

if TYPE_CHECKING:
    from torch import Tensor


class Nothing(Choice):
    """Adds nothing and costs nothing."""

    kind = "none"
    tensors = "ABCDE"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """No parts."""
        return {}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """Nothing."""
        return Contribution()

    def lora_rank(self, tensor: str) -> int | None:
        """0."""
        return 0
