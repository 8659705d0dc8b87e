"""A small vision transformer with random weights everywhere, and handwritten digits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.data import grey
from support.models import randomise, tiny_vit

from glorasearch.data import DataConfig, Splits, load_splits
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
    return load_splits(DataConfig(source="digits", train=40, search=70, test=90), grey())


def make_supernet(qkv_bias: bool = True, std: float = 0.2) -> Supernet:
    """Random weights everywhere, so that every subnet has logits of its own."""
    supernet = Supernet(tiny_vit(qkv_bias=qkv_bias), SearchSpace.from_dict({"name": "tiny", "choices": CHOICES}))
    return randomise(supernet, std)


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
