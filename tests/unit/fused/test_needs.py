"""What the host knows of a subnet's gradients without asking the device."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from glorasearch.fused import MergedWeights, layout, pool_of
from glorasearch.fused.layout import DENSE, PRODUCTS, SCALED, SHIFTED, THIN
from glorasearch.fused.parts import key_of
from glorasearch.space import SearchSpace, sample
from glorasearch.supernet import Supernet


@pytest.mark.parametrize("thin_from", [0, 217])
@pytest.mark.parametrize("name", ["glora_medium", "everything", "wegeft"])
def test_the_host_knows_what_a_subnet_needs(monkeypatch: pytest.MonkeyPatch, name: str, thin_from: int) -> None:
    """The plan of each layer without the device: what a step may leave out follows from it."""
    monkeypatch.setattr(layout, "THIN_FROM", thin_from)
    backbone = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2)
    net = Supernet(backbone, SearchSpace.load(name))
    pool = pool_of(net)
    merged = MergedWeights(pool, torch.float32, training=True)
    rng = np.random.default_rng(0)
    several = [pool.codes(sample(net.space, rng)) for _ in range(3)]
    needed = merged.needed(several)
    for number, codes in enumerate(several):
        merged.fill(torch.tensor(codes, dtype=torch.int32))
        for bank, plans in zip(merged.banks, merged.plans, strict=True):
            rows = [bank.needs(codes[position]) for position in bank.positions.tolist()]
            assert [list(row) for row in rows] == plans.tolist()
            for plan in plans:
                dense, scaled, shifted, products = (
                    plan[column].item() == 1 for column in (DENSE, SCALED, SHIFTED, PRODUCTS)
                )
                found = [needed[key_of(plan, column)][number] for column in (DENSE, THIN, SCALED, SHIFTED, PRODUCTS)]
                assert found == [
                    dense,
                    not dense,
                    scaled and not dense,
                    (shifted or products) and not dense,
                    products and not dense,
                ]
    assert {len(flags) for flags in needed.values()} == {3}
    assert {flag for flags in needed.values() for flag in flags} == {False, True}
