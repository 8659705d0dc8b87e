"""A tiny vision transformer, some digits, and a trainer over them."""

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

Build = Callable[..., SupernetTrainer]


@pytest.fixture(scope="session")
def digits() -> SearchData:
    spec = InputSpec(channels=1, height=14, width=14, mean=(0.5,), std=(0.5,))
    return load_search_data(DataConfig(source="digits", train=60, search=40), spec)


@pytest.fixture
def make_supernet() -> Callable[..., Supernet]:
    """A fresh supernet, the same one at every call; `drop_path` and other arguments go to timm."""

    def make(seed: int = 0, choices: dict[str, list[str]] | None = None, **arguments: Any) -> Supernet:
        size: dict[str, Any] = {"img_size": 14, "patch_size": 7, "embed_dim": 24, "depth": 2, "num_heads": 3}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone: nn.Module = timm.create_model(
                "vit_tiny_patch16_224", in_chans=1, num_classes=10, **size, **arguments
            )
        forms = ["none", "constant", "vector", "lora:1", "lora:2"]
        space = {"name": "tiny", "choices": choices or {"A": forms, "B": forms, "E": ["none", "vector"]}}
        return Supernet(backbone.eval(), SearchSpace.from_dict(space), seed=seed)

    return make


@pytest.fixture
def make_trainer(digits: SearchData, make_supernet: Callable[..., Supernet]) -> Build:
    """A trainer over a fresh supernet; keywords of the trainer's `Config`, or its other arguments."""
    fields = set(SupernetTrainer.Config.model_fields)

    def make(
        supernet: Supernet | None = None, strategy: Callable[[Supernet], SamplingStrategy] | None = None, **given: Any
    ) -> SupernetTrainer:
        supernet = supernet or make_supernet()
        recipe = {"steps": 12, "batch_size": 16, "warmup_steps": 2, "record_every": 2}
        config = SupernetTrainer.Config(**recipe | {key: value for key, value in given.items() if key in fields})
        others = {key: value for key, value in given.items() if key not in fields}
        data = others.pop("data", digits.train)
        paths = strategy(supernet) if strategy else Uniform(supernet.space, config.seed)
        return SupernetTrainer(supernet, data, paths, config, **others)

    return make
