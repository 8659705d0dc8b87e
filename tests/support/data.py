"""Toy data: a few handwritten digits."""

from __future__ import annotations

from glorasearch.data import DataConfig, InputSpec, SearchData, load_search_data


def grey(size: int = 14) -> InputSpec:
    """Grey images of that height and width."""
    return InputSpec(channels=1, height=size, width=size, mean=(0.5,), std=(0.5,))


def few_digits(size: int = 14) -> SearchData:
    """60 images to train on and 40 to search with, for `support.models.tiny_vit`."""
    return load_search_data(DataConfig(source="digits", train=60, search=40), grey(size))
