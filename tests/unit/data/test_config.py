from __future__ import annotations

import re
from typing import Any

import pytest

from glorasearch.data import DataConfig
from glorasearch.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": ""}, "'data.source': expected a string that is not empty"),
        ({"seed": -1}, "'data.seed': expected at least 0, found -1"),
        ({"train": 0.5}, "'data.train': expected a whole number, found 0.5"),
        ({"train": 0}, "'data.train': expected at least 1, found 0"),
        ({"search": 1.0}, "'data.search': found 1.0; a fraction"),
        ({"search": True}, "'data.search': expected a count of images, or a fraction of them, found True"),
        ({"test": -3}, "'data.test': found -3; a split needs at least 1 image"),
        ({"size": 0}, "'data.size': expected a number of pixels, or [height, width], found 0"),
        ({"size": [8, 8, 8]}, "'data.size': expected"),
        ({"mean": 0.5}, "'data.mean': expected a list"),
        ({"std": ["a"]}, "'data.std[0]': expected a number, found 'a'"),
        ({"max_memory_gib": -1}, "'data.max_memory_gib': expected at least 0, found -1"),
        ({"max_memory_gib": float("nan")}, "'data.max_memory_gib': expected a finite number, found nan"),
        ({"root": "/data"}, "root belongs to data sets with timm names"),
        ({"source": "npz:a.npz#t", "root": "/data"}, "root belongs to data sets with timm names"),
        ({"test_split": "test"}, "test_split belongs to data sets with timm names"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        DataConfig(**({"source": "digits"} | values))


def test_lists_from_toml_and_json_are_taken() -> None:
    values: dict[str, Any] = {"size": [8, 9], "mean": [0.5], "std": [1]}
    config = DataConfig(source="digits", **values)
    assert (config.size, config.mean, config.std) == ((8, 9), (0.5,), (1,))
