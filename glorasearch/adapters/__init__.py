"""Layers that carry support tensors, and their injection into a backbone."""

from glorasearch.adapters.base import Base, is_adaptable, is_plain, plain_layer, rows_of
from glorasearch.adapters.frozen import frozen_tensors
from glorasearch.adapters.inject import adaptable_layers, head_names, inject, replace_modules, unadaptable_layers
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
    "frozen_tensors",
    "head_names",
    "inject",
    "is_adaptable",
    "is_plain",
    "offered_choices",
    "plain_layer",
    "replace_modules",
    "rows_of",
    "unadaptable_layers",
]
