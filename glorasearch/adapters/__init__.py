"""Layers that carry support tensors, and their injection into a backbone."""

from glorasearch.adapters.inject import adaptable_layers, head_names, inject
from glorasearch.adapters.layer import (
    AdaptedConv2d,
    AdaptedLayer,
    AdaptedLinear,
    LayerChoices,
    plain_layer,
)
from glorasearch.adapters.support import OfferedChoice, Storage, SupportTensor, offered_choices
from glorasearch.adapters.warm_up import WarmUps

__all__ = [
    "AdaptedConv2d",
    "AdaptedLayer",
    "AdaptedLinear",
    "LayerChoices",
    "OfferedChoice",
    "Storage",
    "SupportTensor",
    "WarmUps",
    "adaptable_layers",
    "head_names",
    "inject",
    "offered_choices",
    "plain_layer",
]
