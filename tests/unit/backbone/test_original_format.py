"""Weights in the original format of vision transformers, and weights for images of another size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from support.models import TINY_VIT, tiny_vit
from support.pretrained import State, assert_loaded, build, without
from torch import Tensor, nn

from glorasearch.errors import BackboneError


@pytest.fixture(scope="module")
def state() -> State:
    return {name: value.clone() for name, value in tiny_vit().state_dict().items()}


def flax(model: nn.Module) -> dict[str, np.ndarray]:
    """The weights of a vision transformer in the original format of its authors."""
    found: dict[str, Tensor] = {}
    found["embedding/kernel"] = model.patch_embed.proj.weight.permute(2, 3, 1, 0)
    found["embedding/bias"] = model.patch_embed.proj.bias
    found["cls"], found["Transformer/posembed_input/pos_embedding"] = model.cls_token, model.pos_embed
    found["Transformer/encoder_norm/scale"] = model.norm.weight
    found["Transformer/encoder_norm/bias"] = model.norm.bias
    for number, block in enumerate(model.blocks):
        at, heads = f"Transformer/encoderblock_{number}/", block.attn.num_heads
        width = block.attn.proj.in_features
        found |= {f"{at}LayerNorm_0/scale": block.norm1.weight, f"{at}LayerNorm_0/bias": block.norm1.bias}
        found |= {f"{at}LayerNorm_2/scale": block.norm2.weight, f"{at}LayerNorm_2/bias": block.norm2.bias}
        attention = f"{at}MultiHeadDotProductAttention_1/"
        for name, weight, bias in zip(
            ("query", "key", "value"), block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3), strict=True
        ):
            found[f"{attention}{name}/kernel"] = weight.T.reshape(width, heads, -1)
            found[f"{attention}{name}/bias"] = bias.reshape(heads, -1)
        found[f"{attention}out/kernel"] = block.attn.proj.weight.T.reshape(heads, -1, width)
        found[f"{attention}out/bias"] = block.attn.proj.bias
        for number_of_layer, layer in enumerate((block.mlp.fc1, block.mlp.fc2)):
            found[f"{at}MlpBlock_3/Dense_{number_of_layer}/kernel"] = layer.weight.T
            found[f"{at}MlpBlock_3/Dense_{number_of_layer}/bias"] = layer.bias
    return {name: value.detach().numpy() for name, value in found.items()}


def test_the_original_format_is_read_and_held_to_the_same(state: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, **flax(tiny_vit()))
    assert_loaded(build(path), state)
    with pytest.raises(BackboneError, match=r"1 of the file have no place in the model: blocks\.1"):
        build(path, args=TINY_VIT | {"depth": 1})
    with pytest.raises(BackboneError, match=r"2 of the 30 .* are not in it: fc_norm\.weight"):
        build(path, args=TINY_VIT | {"fc_norm": True})
    assert_loaded(build(path, args=TINY_VIT | {"depth": 1}, allow_missing=["blocks.*"]), without(state, "blocks.1."))


def test_positions_are_resampled_and_channels_summed(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "weights.pth")
    cfg = {"input_size": [1, 14, 14]}
    model = build(tmp_path / "weights.pth", args=TINY_VIT | {"img_size": 28, "pretrained_cfg_overlay": cfg})
    assert_loaded(model, without(state, "pos_embed"))
    expected = timm.layers.resample_abs_pos_embed(state["pos_embed"], (4, 4))
    torch.testing.assert_close(model.state_dict()["pos_embed"], expected)

    rgb = tiny_vit(in_chans=3).state_dict()
    torch.save(rgb, tmp_path / "rgb.pth")
    grey = build(tmp_path / "rgb.pth").state_dict()["patch_embed.proj.weight"]
    torch.testing.assert_close(grey, rgb["patch_embed.proj.weight"].sum(1, keepdim=True))
