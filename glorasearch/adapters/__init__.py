"""Layers that carry support tensors, and their injection into a backbone."""

from glorasearch.adapters.inject import adaptable_layers, head_names, inject
from glorasearch.adapters.layer import (
    AdaptedConv2d,
    AdaptedLayer,
    AdaptedLinear,
    LayerChoices,
    plain_layer,
)
from glorasearch.adapters.support import Method, Storage, SupportTensor, methods_of
from glorasearch.adapters.values import as_line, as_matrix

__all__ = [
    "AdaptedConv2d",
    "AdaptedLayer",
    "AdaptedLinear",
    "LayerChoices",
    "Method",
    "Storage",
    "SupportTensor",
    "adaptable_layers",
    "as_line",
    "as_matrix",
    "head_names",
    "inject",
    "methods_of",
    "plain_layer",
]
