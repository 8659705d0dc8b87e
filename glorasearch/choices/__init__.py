"""The forms that a support tensor may take, one small class each. Pure Python until tensors come in."""

from glorasearch.choices.base import (
    SUPPORT_TENSORS,
    Choice,
    Contribution,
    Dense,
    Kind,
    LayerShape,
    LowRank,
    Options,
    Part,
    Site,
    Spectral,
    as_matrix,
    as_vector,
)
from glorasearch.choices.plugins import plugin_sources, register_plugin
from glorasearch.choices.table import (
    CHOICES,
    check_allowed,
    check_fits,
    describe_choices,
    options_of,
    parse_choice,
    register,
)

__all__ = [
    "CHOICES",
    "SUPPORT_TENSORS",
    "Choice",
    "Contribution",
    "Dense",
    "Kind",
    "LayerShape",
    "LowRank",
    "Options",
    "Part",
    "Site",
    "Spectral",
    "as_matrix",
    "as_vector",
    "check_allowed",
    "check_fits",
    "describe_choices",
    "options_of",
    "parse_choice",
    "plugin_sources",
    "register",
    "register_plugin",
]
