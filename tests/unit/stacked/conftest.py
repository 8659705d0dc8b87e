"""A little data, and a backbone in float64."""

from __future__ import annotations

import pytest
from support.data import few_digits
from support.models import tiny_vit
from support.stacks import double
from torch import nn

from glorasearch.data import SearchData


@pytest.fixture(scope="module")
def data() -> SearchData:
    return few_digits()


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    return double(tiny_vit())
