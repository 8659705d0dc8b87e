"""The skeleton of a backbone says what the backbone itself would say of its input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models import VisionTransformer, register_model
from torch import nn

from glorasearch.backbone import BackboneConfig, build_backbone, build_skeleton
from glorasearch.data import InputSpec
from glorasearch.errors import BackboneError


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_tiny_patch16_224", {"img_size": 32, "in_chans": 1}),
        ("deit_tiny_distilled_patch16_224", {}),
        ("resnet18", {}),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)}),
    ],
)
def test_its_input_is_the_backbones(name: str, arguments: dict[str, Any]) -> None:
    config = BackboneConfig(name=name, pretrained=False, args=arguments)
    skeleton = build_skeleton(config, 3)
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    assert InputSpec.from_backbone(skeleton) == InputSpec.from_backbone(build_backbone(config, 3))


def test_no_weights_are_asked_for() -> None:
    config = BackboneConfig(name="vit_tiny_patch16_224", pretrained=True, checkpoint="/no/such/file")
    skeleton = build_skeleton(config, 3)
    assert skeleton.get_classifier().out_features == 3
    with pytest.raises(BackboneError, match="/no/such/file"):
        build_backbone(config, 3)


@register_model
def skeleton_test_reads_a_value(num_classes: int, **_: Any) -> nn.Module:
    """A model whose depth is read from a tensor, which the meta device has no values for."""
    depth = int(torch.ones(1).item())
    return VisionTransformer(img_size=32, embed_dim=24, num_heads=3, depth=depth, num_classes=num_classes)


def test_a_model_that_needs_values_while_it_is_built_gets_them() -> None:
    skeleton = build_skeleton(BackboneConfig(name="skeleton_test_reads_a_value"), 3)
    assert not any(parameter.is_meta for parameter in skeleton.parameters())


def test_an_unknown_name_is_refused_as_ever() -> None:
    with pytest.raises(BackboneError, match="no such model"):
        build_skeleton(BackboneConfig(name="vit_tiny_patch61"), 3)


@register_model
def skeleton_test_has_no_weights(**_: Any) -> nn.Module:
    """A model whose library ends its messages with a full stop."""
    raise RuntimeError("There are none.")


def test_a_message_has_one_full_stop_after_what_the_library_said() -> None:
    with pytest.raises(BackboneError, match=r"cannot be loaded: There are none\. Where there is no network"):
        build_backbone(BackboneConfig(name="skeleton_test_has_no_weights"), 3)
