"""Which way a layer's gradient is computed on a GPU, at the sizes that there are."""

from __future__ import annotations

import pytest

from glorasearch.fused.layout import NARROW_RANK, THIN_RANK, Shape


@pytest.mark.parametrize(
    ("outs", "ins", "narrow", "thin"),
    [
        (2304, 768, False, True),  # ViT-B
        (768, 768, False, True),
        (3072, 768, False, True),
        (768, 3072, False, True),
        (1536, 384, False, True),  # ViT-S
        (384, 384, True, False),
        (192, 768, True, False),  # ViT-Ti
        (64, 256, True, False),  # ResNet-50
        (1024, 256, True, False),
        (2048, 512, False, True),
    ],
)
def test_the_way_follows_from_the_size(outs: int, ins: int, narrow: bool, thin: bool) -> None:
    shape = Shape(outs, ins, 4, 4)
    assert (shape.narrow, shape.thin_products) == (narrow, thin)


def test_many_columns_and_spectra_take_the_stored_way() -> None:
    """Their tiles would not fit into a multiprocessor's memory."""
    assert Shape(3072, 768, 64, THIN_RANK).thin_products
    assert not Shape(3072, 768, 4, THIN_RANK + 1).thin_products
    assert not Shape(3072, 768, 4, 0).thin_products, "there are none"
    assert Shape(256, 64, NARROW_RANK, NARROW_RANK).narrow
    assert not Shape(256, 64, NARROW_RANK + 1, 0).narrow
    assert not Shape(256, 64, 0, NARROW_RANK + 1).narrow
    assert not Shape(256, 64, 4, 4, entries=100).narrow
