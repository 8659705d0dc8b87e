"""Layers that carry support tensors, and their injection into a backbone."""

from glorasearch.adapters.base import Base, is_adaptable, plain_layer, rows_of
from glorasearch.adapters.inject import adaptable_layers, head_names, inject
from glorasearch.adapters.layer import AdaptedLayer, LayerChoices
from glorasearch.adapters.norm import AdaptedNorm
from glorasearch.adapters.products import AdaptedConv2d, AdaptedLinear, AdaptedProduct
from glorasearch.adapters.support import OfferedChoice, Storage, SupportTensor, offered_choices
from glorasearch.adapters.warm_up import WarmUps

__all__ = [
    "AdaptedConv2d",
    "AdaptedLayer",
    "AdaptedLinear",
    "AdaptedNorm",
    "AdaptedProduct",
    "Base",
    "LayerChoices",
    "OfferedChoice",
    "Storage",
    "SupportTensor",
    "WarmUps",
    "adaptable_layers",
    "head_names",
    "inject",
    "is_adaptable",
    "offered_choices",
    "plain_layer",
    "rows_of",
]
