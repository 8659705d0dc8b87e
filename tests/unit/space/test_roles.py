"""The roles of layers, in families that name them differently."""

from __future__ import annotations

import pytest
import timm
import torch

from glorasearch.adapters import adaptable_layers
from glorasearch.space import LayerShape
from glorasearch.space.roles import PARTS, ROLES, with_roles


def layers_of(name: str) -> dict[str, LayerShape]:
    with torch.device("meta"):
        return {layer.name: layer for layer in adaptable_layers(timm.create_model(name, num_classes=2))}


@pytest.mark.parametrize(
    ("backbone", "layer", "roles"),
    [
        ("vit_tiny_patch16_224", "patch_embed.proj", {"stem"}),
        ("vit_tiny_patch16_224", "blocks.3.attn.qkv", {"body", "attention", "qkv", "query", "value", "entries"}),
        ("vit_tiny_patch16_224", "blocks.3.attn.proj", {"body", "attention", "proj"}),
        ("vit_tiny_patch16_224", "blocks.3.mlp.fc1", {"body", "mlp", "fc1", "entries"}),
        ("vit_tiny_patch16_224", "blocks.3.mlp.fc2", {"body", "mlp", "fc2"}),
        ("vit_tiny_patch16_224", "blocks.3.norm1", {"body", "norms"}),
        ("vit_base_patch16_siglip_224", "attn_pool.mlp.fc1", {"head"}),
        ("swin_tiny_patch4_window7_224", "layers.1.downsample.reduction", {"body", "downsampling"}),
        ("swinv2_tiny_window8_256", "layers.0.blocks.0.attn.cpb_mlp.0", {"position"}),
        ("convit_tiny", "blocks.0.attn.pos_proj", {"position"}),
        ("convit_tiny", "blocks.0.attn.v", {"body", "attention", "qkv", "value", "entries"}),
        ("crossvit_tiny_240", "blocks.0.fusion.0.attn.wk", {"body", "attention", "qkv", "entries"}),
        ("levit_128s", "stages.0.blocks.0.attn.proj.ln.linear", {"body", "attention", "proj"}),
        ("levit_128s", "stages.0.blocks.0.mlp.ln2.linear", {"body", "mlp", "fc2"}),
        ("coatnet_pico_rw_224", "stages.3.blocks.0.attn.proj", {"body", "attention", "proj", "pointwise"}),
        ("coatnet_pico_rw_224", "stages.0.blocks.0.se.fc1", {"body", "gates", "pointwise"}),
        ("convnext_atto", "stages.1.downsample.1", {"body", "downsampling"}),
        ("convnext_atto", "stages.1.blocks.0.conv_dw", {"body"}),
        ("convnext_atto", "stages.1.blocks.0.mlp.fc2", {"body", "mlp", "fc2", "pointwise"}),
        ("resnet18", "conv1", {"stem"}),
        ("resnet18", "layer2.0.downsample.0", {"body", "pointwise"}),
        ("resnet18", "layer2.0.conv1", {"body"}),
        ("hrnet_w18_small", "stage4.0.branches.3.1.conv2", {"body"}),
        ("poolformer_s12", "stem.conv", {"stem"}),
        ("mambaout_femto", "head.pre_logits.fc", {"head"}),
        ("pvt_v2_b0", "stages.1.downsample.proj", {"body", "downsampling"}),
        ("gcvit_xxtiny", "stages.1.downsample.reduction", {"body", "downsampling"}),
        ("pit_ti_224", "transformers.1.pool.fc", {"body", "downsampling"}),
        ("rdnet_tiny", "dense_stages.2.2.dense_block0.layers.layers.5.fc", {"body", "pointwise"}),
        ("sequencer2d_s", "stages.0.blocks.0.rnn_tokens.fc", {"body"}),
        ("mambaout_femto", "stages.0.blocks.0.fc2", {"body", "mlp", "fc2"}),
    ],
)
def test_roles(backbone: str, layer: str, roles: set[str]) -> None:
    assert layers_of(backbone)[layer].roles == roles


def test_every_layer_has_one_part_and_known_roles_only() -> None:
    for backbone in ("coat_tiny", "csatv2", "efficientvit_m0", "mvitv2_tiny", "tnt_s_patch16_224", "volo_d1_224"):
        for layer in layers_of(backbone).values():
            assert len(layer.roles & {*PARTS}) == 1, layer
            assert layer.roles <= ROLES.keys(), layer


def test_of_a_gated_mlp_the_last_layer_writes() -> None:
    names = ["blocks.0.mlp.w0", "blocks.0.mlp.w1", "blocks.0.mlp.w2"]
    roles = [layer.roles for layer in with_roles([LayerShape(name, 8, 8) for name in names])]
    assert ["fc1" in own for own in roles] == [True, True, False]
    assert "fc2" in roles[2]
