"""Supernets of toy timm models: the backbone at the start, the merged model always, and nothing else touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.models.mlp_mixer import MlpMixer
from torch import Tensor, nn

from glorasearch.adapters import AdaptedLinear, adaptable_layers
from glorasearch.errors import SearchSpaceError
from glorasearch.space import SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet

PLAIN: dict[str, Any] = {
    "img_size": 28,
    "patch_size": 14,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 3,
    "in_chans": 1,
    "num_classes": 5,
}
WINDOWS: dict[str, Any] = {
    "img_size": 32,
    "window_size": 4,
    "embed_dim": 12,
    "depths": (1, 1),
    "num_heads": (2, 4),
    "in_chans": 1,
    "num_classes": 5,
}
STAGES: dict[str, Any] = {"dims": (8, 12, 16, 24), "depths": (1, 1, 1, 1), "in_chans": 1, "num_classes": 5}


def mixer() -> nn.Module:
    return MlpMixer(img_size=28, patch_size=7, embed_dim=24, num_blocks=2, in_chans=1, num_classes=5)


def model_of(name: str, **arguments: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, **arguments)


MODELS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "vit": (model_of("vit_tiny_patch16_224", **PLAIN), 28, 8),
    "vit without qkv bias": (model_of("vit_tiny_patch16_224", **PLAIN, qkv_bias=False), 28, 8),
    "deit with distillation token": (model_of("deit_tiny_distilled_patch16_224", **PLAIN), 28, 8),
    "swin": (model_of("swin_tiny_patch4_window7_224", **WINDOWS), 32, 9),
    "mlp-mixer": (mixer, 28, 8),
    "convnext": (model_of("convnext_tiny", **STAGES), 32, 8),
}
"""Name → how to build it, image size, linear layers outside the head."""

EVERYTHING = {
    "A": ["none", "constant", "vector", "lora:1", "lora:2"],
    "B": ["none", "constant", "vector", "lora:1", "lora:2"],
    "C": ["none", "vector", "lora:1", "lora:2"],
    "D": ["none", "constant", "vector"],
    "E": ["none", "constant", "vector"],
}


def space(include: tuple[str, ...] = ("*",), **content: Any) -> SearchSpace:
    return SearchSpace.from_dict(
        {"name": "everything", "layers": {"include": include}, "choices": EVERYTHING} | content
    )


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A toy backbone, its weights all random, and images for it."""
    make, size, _ = MODELS[name]
    torch.manual_seed(0)
    backbone = make().eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return backbone, torch.randn(3, 1, size, size)


def vit(**content: Any) -> tuple[nn.Module, Supernet, Tensor]:
    backbone, images = build("vit")
    return backbone, Supernet(backbone, space(**content)), images


def subnets(supernet: Supernet, count: int, seed: int = 1) -> list[Subnet]:
    rng = np.random.default_rng(seed)
    extremes = [supernet.space.smallest(), supernet.space.largest()]
    return extremes + [sample(supernet.space, rng) for _ in range(count - len(extremes))]


def randomise(supernet: Supernet, scale: float = 0.1, seed: int = 2) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (supernet.adapter_parameters() | supernet.head_parameters()).values():
            parameter.normal_(std=scale, generator=generator)


@torch.no_grad()
def active(supernet: Supernet, subnet: Subnet, images: Tensor) -> Tensor:
    with supernet.activate(subnet):
        logits: Tensor = supernet(images)
    return logits


@pytest.mark.parametrize("entangle", ["untied", "reference"])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_at_the_start_every_subnet_is_the_backbone_bit_for_bit(name: str, entangle: str) -> None:
    backbone, images = build(name)
    expected = backbone(images)
    supernet = Supernet(backbone, space(entangle=entangle))
    assert len(supernet.adapted) == MODELS[name][2]
    assert torch.equal(supernet(images), expected)
    for subnet in subnets(supernet, 10):
        assert torch.equal(active(supernet, subnet, images), expected)
        assert torch.equal(supernet.merged(subnet)(images), expected)


@pytest.mark.parametrize("entangle", ["untied", "reference"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_merged_model_is_the_active_subnet(name: str, dtype: torch.dtype, tolerance: float, entangle: str) -> None:
    backbone, images = build(name)
    backbone, images = backbone.to(dtype), images.to(dtype)
    supernet = Supernet(backbone, space(entangle=entangle))
    randomise(supernet)
    outside = supernet(images)
    for subnet in subnets(supernet, 8):
        expected = active(supernet, subnet, images)
        assert (supernet.merged(subnet)(images) - expected).abs().max() <= tolerance
        if supernet.space.parameters(subnet):
            assert not torch.allclose(expected, outside, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_the_merged_model_is_plain_and_independent(name: str) -> None:
    backbone, _ = build(name)
    supernet = Supernet(backbone, space())
    randomise(supernet)
    merged = supernet.merged(supernet.space.smallest())
    assert type(merged) is type(backbone)
    assert not merged.training
    assert [(key, type(module)) for key, module in merged.named_modules()] == [
        (key, type(module)) for key, module in backbone.named_modules()
    ]
    shapes = {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in merged.state_dict().items()} == shapes
    assert all(parameter.requires_grad for parameter in merged.parameters())

    theirs = {value.data_ptr() for value in backbone.state_dict().values()}
    ours = {value.data_ptr() for value in supernet.state_dict().values()}
    assert not (theirs | ours) & {value.data_ptr() for value in merged.state_dict().values() if value.numel()}

    largest = supernet.space.largest()
    gained = set(supernet.merged(largest).state_dict()) - set(shapes)
    assert gained == {f"{layer}.bias" for layer in supernet.gains_bias()}
    assert gained == {
        f"{layer.name}.bias" for layer in adaptable_layers(backbone) if not layer.bias and layer.holds_bias
    }


@pytest.mark.parametrize("name", MODELS)
def test_base_weights_are_shared_and_the_backbone_stays_as_it_is(name: str) -> None:
    backbone, images = build(name)
    next(backbone.parameters()).requires_grad_(False)
    modules = dict(backbone.named_modules())
    parameters = dict(backbone.named_parameters())
    flags = {key: parameter.requires_grad for key, parameter in parameters.items()}
    values = {key: value.clone() for key, value in backbone.state_dict().items()}

    supernet = Supernet(backbone, space())
    frozen = supernet.frozen_state()
    heads = tuple(f"{head}." for head in supernet.heads)
    assert set(frozen) == {key for key in values if not key.startswith(heads)}
    for key, parameter in parameters.items():
        if not key.startswith(heads):
            assert frozen[key].data_ptr() == parameter.data_ptr()
            assert not frozen[key].requires_grad
    for key, parameter in supernet.head_parameters().items():
        assert parameter.requires_grad
        assert parameter.data_ptr() != parameters[key].data_ptr()

    optimizer = torch.optim.SGD([p for p in supernet.parameters() if p.requires_grad], lr=0.1)
    with supernet.train().activate(supernet.space.largest()):
        supernet(images).square().sum().backward()
    optimizer.step()
    assert not torch.equal(
        supernet.head_parameters()[f"{supernet.heads[0]}.weight"], values[f"{supernet.heads[0]}.weight"]
    )

    assert list(modules) == [key for key, _ in backbone.named_modules()]
    assert all(module is modules[key] for key, module in backbone.named_modules())
    assert all(parameter is parameters[key] for key, parameter in backbone.named_parameters())
    assert {key: parameter.requires_grad for key, parameter in backbone.named_parameters()} == flags
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, values[key])


def test_trainable_are_the_support_tensors_and_the_head_alone() -> None:
    _, supernet, _ = vit()
    trainable = {id(parameter) for parameter in supernet.parameters() if parameter.requires_grad}
    named = supernet.adapter_parameters() | supernet.head_parameters()
    assert trainable == {id(parameter) for parameter in named.values()}
    assert set(supernet.adapter_state()) == set(named)


def test_what_the_space_does_not_name_is_left_alone() -> None:
    backbone, images = build("vit")
    supernet = Supernet(backbone, space(include=("blocks.1.mlp.*",)))
    adapted = {key for key, module in supernet.model.named_modules() if isinstance(module, AdaptedLinear)}
    assert adapted == {"blocks.1.mlp.fc1", "blocks.1.mlp.fc2"} == set(supernet.adapted)
    assert type(supernet.model.get_submodule("head")) is nn.Linear
    randomise(supernet)
    merged = supernet.merged(supernet.space.largest()).state_dict()
    changed = {key for key, value in backbone.state_dict().items() if not torch.equal(merged[key], value)}
    assert changed == {f"{layer}.{part}" for layer in [*adapted, "head"] for part in ("weight", "bias")}
    assert torch.isfinite(active(supernet, supernet.space.largest(), images)).all()


def test_seeds_decide_the_adapters() -> None:
    backbone, _ = build("vit")
    states = [Supernet(backbone, space(), seed=seed).adapter_state() for seed in (0, 0, 1)]
    name = "blocks.0.attn.qkv.A.up"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_activation_is_reentrant_and_ends_with_the_block() -> None:
    _, supernet, images = vit()
    randomise(supernet)
    first, second = subnets(supernet, 4)[2:]
    outside = supernet(images)
    with supernet.activate(first) as entered:
        assert entered is supernet
        before = supernet(images)
        with supernet.activate(second):
            inner = supernet(images)
            with supernet.activate(first):
                assert torch.equal(supernet(images), before)
            assert torch.equal(supernet(images), inner)
        assert torch.equal(supernet(images), before)
    assert torch.equal(supernet(images), outside)
    assert not torch.equal(before, inner)
    assert torch.equal(before, active(supernet, first, images))


def test_activation_ends_with_an_exception_too() -> None:
    _, supernet, images = vit()
    randomise(supernet)
    first, second = subnets(supernet, 4)[2:]
    outside = supernet(images)
    with supernet.activate(first):
        before = supernet(images)
        with pytest.raises(AssertionError, match="Input height"), supernet.activate(second):
            supernet(images[:, :, :3])
        assert torch.equal(supernet(images), before)
        with pytest.raises(SearchSpaceError), supernet.activate(Subnet({("head", "B"): "vector"})):
            pass
        assert torch.equal(supernet(images), before)
    assert torch.equal(supernet(images), outside)


def test_a_subnet_of_another_space_is_refused() -> None:
    _, supernet, _ = vit()
    foreign = supernet.space.smallest().replace({("blocks.0.attn.qkv", "B"): "lora:8"})
    with pytest.raises(SearchSpaceError, match=r"gene blocks\.0\.attn\.qkv\.B: 'lora:8' is not offered"):
        supernet.merged(foreign)
