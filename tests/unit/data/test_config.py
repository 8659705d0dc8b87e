from __future__ import annotations

from typing import Any

import pytest

from glorasearch.data import DataConfig
from glorasearch.errors import DataError


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": ""}, "source is empty"),
        ({"seed": -1}, "data.seed is -1"),
        ({"train": 0.5}, "data.train is 0.5; allowed is a count"),
        ({"train": 0}, "data.train is 0"),
        ({"search": 1.0}, "data.search is 1.0; a fraction"),
        ({"search": True}, "data.search is True"),
        ({"test": -3}, "data.test is -3"),
        ({"size": 0}, "data.size is 0"),
        ({"size": [8, 8, 8]}, "data.size is"),
        ({"mean": 0.5}, "data.mean is 0.5; allowed is a list"),
        ({"std": ["a"]}, "data.std is"),
        ({"max_memory_gib": -1}, "max_memory_gib"),
        ({"max_memory_gib": float("nan")}, "max_memory_gib"),
        ({"root": "/data"}, "data.root belongs to names in timm's way"),
        ({"test_split": "test"}, "data.test_split belongs to names in timm's way"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        DataConfig(**({"source": "digits"} | values))


def test_lists_from_toml_and_json_are_taken() -> None:
    values: dict[str, Any] = {"size": [8, 9], "mean": [0.5], "std": [1]}
    config = DataConfig(source="digits", **values)
    assert (config.size, config.mean, config.std) == ((8, 9), (0.5,), (1,))
