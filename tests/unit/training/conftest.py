"""A tiny vision transformer, some digits, and a trainer over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.data import few_digits
from support.models import tiny_vit
from support.training import trainer_of

from glorasearch.data import SearchData
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.training import SamplingStrategy, SupernetTrainer

Build = Callable[..., SupernetTrainer]


@pytest.fixture(scope="session")
def digits() -> SearchData:
    return few_digits()


@pytest.fixture
def make_supernet() -> Callable[..., Supernet]:
    """A fresh supernet, the same one at every call; `drop_path` and other arguments go to timm."""

    def make(seed: int = 0, choices: dict[str, list[str]] | None = None, **arguments: Any) -> Supernet:
        forms = ["none", "constant", "vector", "lora:1", "lora:2"]
        space = {"name": "tiny", "choices": choices or {"A": forms, "B": forms, "E": ["none", "vector"]}}
        return Supernet(tiny_vit(**arguments), SearchSpace.from_dict(space), seed=seed)

    return make


@pytest.fixture
def make_trainer(digits: SearchData, make_supernet: Callable[..., Supernet]) -> Build:
    """A trainer over a fresh supernet; keywords of the trainer's `Config`, or its other arguments."""
    recipe = {"steps": 12, "batch_size": 16, "warmup_steps": 2, "record_every": 2}

    def make(
        supernet: Supernet | None = None, strategy: Callable[[Supernet], SamplingStrategy] | None = None, **given: Any
    ) -> SupernetTrainer:
        supernet = supernet or make_supernet()
        data = given.pop("data", digits.train)
        return trainer_of(supernet, data, strategy(supernet) if strategy else None, recipe, given)

    return make
