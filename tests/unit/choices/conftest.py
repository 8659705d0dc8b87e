"""A tiny vision transformer with the choices that watch training, and a trainer over some digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from glorasearch.data import DataConfig, InputSpec, SearchData, load_search_data
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.training import SamplingStrategy, SupernetTrainer, Uniform

SIZE: dict[str, Any] = {"img_size": 14, "patch_size": 7, "embed_dim": 12, "depth": 1, "num_heads": 3}


@pytest.fixture(scope="session")
def digits() -> SearchData:
    spec = InputSpec(channels=1, height=14, width=14, mean=(0.5,), std=(0.5,))
    return load_search_data(DataConfig(source="digits", train=60, search=40), spec)


@pytest.fixture
def make_supernet() -> Callable[..., Supernet]:
    """A fresh supernet over one backbone; arguments are those of a search space."""

    def make(
        choices: dict[str, list[str]], seed: int = 0, dtype: torch.dtype = torch.float32, **content: Any
    ) -> Supernet:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone: nn.Module = timm.create_model("vit_tiny_patch16_224", in_chans=1, num_classes=10, **SIZE)
        space = SearchSpace.from_dict({"name": "tiny", "choices": choices} | content)
        return Supernet(backbone.eval().to(dtype), space, seed=seed)

    return make


@pytest.fixture
def make_trainer(digits: SearchData) -> Callable[..., SupernetTrainer]:
    """A trainer; keywords of its `Config`, or its other arguments."""
    fields = set(SupernetTrainer.Config.model_fields)

    def make(supernet: Supernet, strategy: SamplingStrategy | None = None, **given: Any) -> SupernetTrainer:
        recipe = {"steps": 12, "batch_size": 16, "warmup_steps": 0, "record_every": 2, "lr": 1e-2}
        config = SupernetTrainer.Config(**recipe | {key: value for key, value in given.items() if key in fields})
        others = {key: value for key, value in given.items() if key not in fields}
        return SupernetTrainer(supernet, digits.train, strategy or Uniform(supernet.space, 0), config, **others)

    return make
