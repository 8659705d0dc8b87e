"""Only the classifier is drawn anew: norms and layers before it start as they were pretrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from glorasearch.adapters import frozen_tensors, head_names
from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet

HEADS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "vit_tiny_patch16_224": ({"depth": 1, "img_size": 64}, {"head"}),
    "deit_tiny_distilled_patch16_224": ({"depth": 1, "img_size": 64}, {"head", "head_dist"}),
    "vit_base_patch16_siglip_gap_224": ({"depth": 1, "img_size": 64, "embed_dim": 48, "num_heads": 3}, {"head"}),
    "vit_base_patch16_siglip_224": ({"depth": 1, "img_size": 64, "embed_dim": 48, "num_heads": 3}, {"head"}),
    "caformer_s18": ({}, {"head.fc.fc2"}),
    "levit_128s": ({}, {"head.linear", "head_dist.linear"}),
    "repvit_m1": ({}, {"head.head.l", "head.head_dist.l"}),
    "iformer_t": ({}, {"head.head.l"}),
    "resnet50_clip": ({}, {"head.proj"}),
    "convnext_atto": ({}, {"head.fc"}),
    "mobilenetv3_small_050": ({}, {"classifier"}),
}
"""Model → arguments, and the layers that are drawn."""


def config_of(name: str, **values: Any) -> BackboneConfig:
    return BackboneConfig(name=name, args=HEADS[name][0], **values)


@pytest.mark.parametrize("name", HEADS)
def test_the_classifier_alone_is_new(name: str, tmp_path: Path) -> None:
    args, drawn = HEADS[name]
    source = timm.create_model(name, num_classes=5, **args)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.normal_(std=0.05)
        for buffer_name, buffer in source.named_buffers():
            if "running" in buffer_name:
                buffer.uniform_(0.5, 1.5)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    models = [
        build_backbone(config_of(name, checkpoint=str(tmp_path / "weights.pth")), 3, seed=seed) for seed in (0, 1)
    ]
    changed = set()
    for key, value in models[0].state_dict().items():
        pretrained = source.state_dict()[key]
        if value.shape != pretrained.shape or not torch.equal(value, pretrained):
            changed.add(key.rpartition(".")[0])
            other = models[1].state_dict()[key]
            if key.endswith("weight"):
                assert 0.01 < value.std() < 0.03
                assert not torch.equal(value, other)
            else:
                assert not value.any()
    assert changed == drawn
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in frozen_tensors(models[0]).items())


@pytest.mark.parametrize("name", ["caformer_s18", "levit_128s", "repvit_m1", "iformer_t"])
def test_images_reach_the_logits_and_gradients_the_backbone(name: str) -> None:
    """Where the norm of a head starts at 0, all logits and all gradients of the backbone are 0."""
    model = build_backbone(config_of(name, pretrained=False), 3)
    logits = model(torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    assert logits.std() > 0
    cross_entropy(logits, torch.tensor([0, 1])).backward()
    trained = {f"{head}.{own}" for head in head_names(model) for own, _ in model.get_submodule(head).named_parameters()}
    gradients = [value.grad for key, value in model.named_parameters() if key not in trained]
    assert any(gradient is not None and gradient.any() for gradient in gradients)
    norms = [
        m
        for h in head_names(model)
        for m in model.get_submodule(h).modules()
        if isinstance(m, (nn.LayerNorm, nn.BatchNorm1d))
    ]
    assert norms
    assert all(norm.weight.unique().tolist() == [1.0] for norm in norms)


def test_the_draw_is_that_of_earlier_versions() -> None:
    """Results of plain vision transformers depend on it."""
    generator = torch.Generator().manual_seed(3)
    expected = [torch.empty(4, 192).normal_(std=0.02, generator=generator) for _ in range(2)]
    model = build_backbone(config_of("deit_tiny_distilled_patch16_224", pretrained=False), 4, seed=3)
    assert torch.equal(model.head.weight, expected[0])
    assert torch.equal(model.head_dist.weight, expected[1])
    assert not model.head.bias.any()


def test_statistics_of_a_norm_in_the_head_are_frozen_with_the_backbone() -> None:
    model = build_backbone(config_of("levit_128s", pretrained=False), 4)
    space = SearchSpace.from_dict({"name": "s", "layers": {"include": ["*"]}, "choices": {"A": ["none", "lora:2"]}})
    supernet = Supernet(model, space)
    state: dict[str, Tensor] = supernet.frozen_state()
    assert "head.bn.running_mean" in state
    assert state.keys() == frozen_tensors(model).keys()
    assert not state.keys() & supernet.head_parameters().keys()
