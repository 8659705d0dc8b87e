"""The forms that a support tensor may take: one small class in one file each. Pure Python until tensors come in."""

from glorasearch.choices.base import (
    SUPPORT_TENSORS,
    Choice,
    Contribution,
    Dense,
    LayerShape,
    LowRank,
    Options,
    Part,
    Site,
    Spectral,
)
from glorasearch.choices.table import (
    CHOICES,
    check_allowed,
    describe_choices,
    method_sources,
    options_of,
    parse_choice,
    register,
    register_named,
)

__all__ = [
    "CHOICES",
    "SUPPORT_TENSORS",
    "Choice",
    "Contribution",
    "Dense",
    "LayerShape",
    "LowRank",
    "Options",
    "Part",
    "Site",
    "Spectral",
    "check_allowed",
    "describe_choices",
    "method_sources",
    "options_of",
    "parse_choice",
    "register",
    "register_named",
]
