"""Patch embeddings as products."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from glorasearch.fused.patches import PatchProduct, embed_by_products


@pytest.mark.parametrize("size", [(12, 16), (14, 19)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"padding": (0, 0)}, {"stride": 4, "kernel_size": (4, 4)}])
def test_a_product_computes_and_learns_as_the_convolution(size: tuple[int, int], bias: bool, options: Any) -> None:
    torch.manual_seed(0)
    given = {"kernel_size": (4, 3), "stride": (4, 3)} | options
    conv = nn.Conv2d(3, 10, bias=bias, **given).double()
    product = nn.Conv2d(3, 10, bias=bias, **given).double()
    product.load_state_dict(conv.state_dict())
    model = nn.Sequential(product)
    embed_by_products(model)
    assert type(model[0]) is PatchProduct
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted, found = conv(first), model(second)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)
    dy = torch.randn_like(wanted)
    wanted.backward(dy)
    found.backward(dy)
    torch.testing.assert_close(second.grad, first.grad, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "more", "changes"),
    [
        ("vit_tiny_patch16_224", {"depth": 1}, True),
        ("vit_small_patch14_dinov2", {"depth": 1, "img_size": 28}, True),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)}, True),
        ("deit_tiny_distilled_patch16_224", {"depth": 1}, True),
        ("convnext_atto", {"depths": (1, 1, 1, 1)}, False),  # depthwise ones
        ("resnet18", {}, False),  # patches that overlap
        ("levit_128s", {}, False),
    ],
)
def test_only_models_whose_convolutions_are_all_of_patches_change(name: str, more: Any, changes: bool) -> None:
    model = timm.create_model(name, **more).eval()
    size = model.pretrained_cfg["input_size"][1] if "img_size" not in more else more["img_size"]
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = model(images)
        embed_by_products(model)
        found = model(images)
    assert any(isinstance(module, PatchProduct) for module in model.modules()) == changes
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    if not changes:
        assert torch.equal(found, wanted)
