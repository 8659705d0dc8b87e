"""A tiny vision transformer with the choices that watch training, and a trainer over some digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.data import few_digits
from support.models import tiny_vit
from support.training import trainer_of

from glorasearch.data import SearchData
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.training import SamplingStrategy, SupernetTrainer


@pytest.fixture(scope="session")
def digits() -> SearchData:
    return few_digits()


@pytest.fixture
def make_supernet() -> Callable[..., Supernet]:
    """A fresh supernet over one backbone; arguments are those of a search space."""

    def make(
        choices: dict[str, list[str]], seed: int = 0, dtype: torch.dtype = torch.float32, **content: Any
    ) -> Supernet:
        space = SearchSpace.from_dict({"name": "tiny", "choices": choices} | content)
        return Supernet(tiny_vit(embed_dim=12, depth=1).to(dtype), space, seed=seed)

    return make


@pytest.fixture
def make_trainer(digits: SearchData) -> Callable[..., SupernetTrainer]:
    """A trainer; keywords of its `Config`, or its other arguments."""
    recipe = {"steps": 12, "batch_size": 16, "warmup_steps": 0, "record_every": 2, "lr": 1e-2}

    def make(supernet: Supernet, strategy: SamplingStrategy | None = None, **given: Any) -> SupernetTrainer:
        return trainer_of(supernet, digits.train, strategy, recipe, given)

    return make
