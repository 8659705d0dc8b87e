"""A small vision transformer with random weights everywhere, and handwritten digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from glorasearch.data import DataConfig, InputSpec, Splits, load_splits
from glorasearch.space import SearchSpace, sample
from glorasearch.supernet import Supernet

CHOICES = {
    "A": ["none", "constant", "vector", "lora:2"],
    "B": ["none", "constant", "vector", "lora:1", "lora:2"],
    "C": ["none", "vector", "lora:2"],
    "D": ["none", "constant", "vector"],
    "E": ["none", "constant", "vector"],
}


@pytest.fixture(scope="session")
def splits() -> Splits:
    spec = InputSpec(channels=1, height=14, width=14, mean=(0.5,), std=(0.5,))
    return load_splits(DataConfig(source="digits", train=40, search=70, test=90), spec)


def make_supernet(qkv_bias: bool = True, std: float = 0.2) -> Supernet:
    """Random weights everywhere, so that every subnet has logits of its own."""
    arguments: dict[str, Any] = {"img_size": 14, "patch_size": 7, "embed_dim": 24, "depth": 2, "num_heads": 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone: nn.Module = timm.create_model(
            "vit_tiny_patch16_224", in_chans=1, num_classes=10, qkv_bias=qkv_bias, **arguments
        )
        supernet = Supernet(backbone.eval(), SearchSpace.from_dict({"name": "tiny", "choices": CHOICES}))
        with torch.no_grad():
            for parameter in (supernet.adapter_parameters() | supernet.head_parameters()).values():
                parameter.normal_(std=std)
    return supernet


@pytest.fixture
def new_supernet() -> Callable[..., Supernet]:
    return make_supernet


@pytest.fixture(scope="session")
def fitted(splits: Splits) -> Supernet:
    """A supernet that has learned the images of the search split, some better than others, and some subnets more."""
    supernet = make_supernet(std=0.05)
    images, labels = splits.search.batch(slice(None))
    rng = np.random.default_rng(0)
    optimizer = torch.optim.Adam((supernet.adapter_parameters() | supernet.head_parameters()).values(), lr=1e-2)
    for _ in range(250):
        with supernet.activate(sample(supernet.space, rng)):
            loss = F.cross_entropy(supernet(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return supernet
