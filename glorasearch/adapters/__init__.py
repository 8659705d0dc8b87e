"""Support tensors, the layers that carry them, and their injection into a backbone."""

from glorasearch.adapters.inject import head_names, inject, linear_layers
from glorasearch.adapters.linear import AdaptedLinear, LayerChoices
from glorasearch.adapters.support import LowRank, SupportTensor

__all__ = [
    "AdaptedLinear",
    "LayerChoices",
    "LowRank",
    "SupportTensor",
    "head_names",
    "inject",
    "linear_layers",
]
