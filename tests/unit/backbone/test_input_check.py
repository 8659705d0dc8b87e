"""Images that a backbone cannot take are refused with the argument to set, and what is said works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import tiny_vit
from timm.models import VisionTransformer, register_model
from torch import Tensor, nn

from glorasearch.api import load_data
from glorasearch.backbone import BackboneConfig, build_backbone, build_skeleton, check_input, check_model_input
from glorasearch.data import InputSpec
from glorasearch.errors import BackboneError, DataError

VIT = {"depth": 1, "embed_dim": 24, "num_heads": 3}
SMALL: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": VIT,
    "mixer_s32_224": {},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1)},
    "levit_128s": {},
    "resnet18": {},
    "crossvit_9_240": {},
}


def check(name: str, size: int, **args: Any) -> None:
    config = BackboneConfig(name=name, pretrained=False, args=SMALL.get(name, {}) | args)
    skeleton = build_skeleton(config, 2)
    check_input(config, skeleton, (InputSpec.from_backbone(skeleton).channels, size, size))


@pytest.mark.parametrize("name", SMALL)
def test_its_own_size_is_taken(name: str) -> None:
    check(name, 240 if name == "crossvit_9_240" else 224)


@pytest.mark.parametrize(
    ("name", "args", "remedies"),
    [
        ("vit_tiny_patch16_224", {}, ["img_size = 64", "dynamic_img_size = true", "leave out data.size"]),
        ("vit_tiny_patch16_224", {"img_size": 32}, ["img_size = 64", "dynamic_img_size = true", "resized to 32 x 32"]),
        ("mixer_s32_224", {}, ["img_size = 64", "leave out data.size"]),
        ("levit_128s", {}, ["img_size = 64", "leave out data.size"]),
        ("maxvit_nano_rw_256", {}, ["img_size = 64", "leave out data.size"]),
    ],
)
def test_another_size_is_refused_with_what_makes_it_work(name: str, args: dict[str, Any], remedies: list[str]) -> None:
    with pytest.raises(BackboneError, match="cannot take images of 64 x 64 pixels and 3 channels") as refused:
        check(name, 64, **args)
    for remedy in remedies:
        assert remedy in str(refused.value)
    for argument in ({"img_size": 64}, {"dynamic_img_size": True}):
        (said,) = (f"{key} = {str(value).lower()}" for key, value in argument.items())
        if said in str(refused.value):
            check(name, 64, **args | argument)


def test_sizes_that_fit_need_nothing() -> None:
    check("resnet18", 64)
    check("vit_tiny_patch16_224", 64, dynamic_img_size=True)


def test_a_size_between_patches_is_named() -> None:
    with pytest.raises(BackboneError, match=r"should be divisible.*a data\.size that is a multiple of 16"):
        check("vit_tiny_patch16_224", 56, dynamic_img_size=True)


def test_a_multiple_of_the_patches_is_no_remedy_where_one_size_is_taken() -> None:
    with pytest.raises(BackboneError, match=r"set img_size = 56 in backbone\.args; or leave out data\.size"):
        check("vit_tiny_patch16_224", 56)


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("key", ["img_size", "dynamic_img_size"])
def test_an_argument_that_the_model_does_not_know_is_named(key: str, pretrained: bool) -> None:
    with pytest.raises(BackboneError, match=rf"does not take {key}: leave {key} out of backbone\.args \(.* data\.size"):
        build_backbone(BackboneConfig(name="resnet18", pretrained=pretrained, args={key: 64}), 2)


def test_a_directory_of_dynamic_size_is_for_the_size_that_it_names(tmp_path: Path) -> None:
    """So are exports of runs at another size, whose `img_size` is that of the table of positions."""
    built = VIT | {"img_size": 224, "dynamic_img_size": True}
    content = {"architecture": "vit_tiny_patch16_224", "num_classes": 3, "model_args": built}
    cfg = {"input_size": [3, 64, 96], "fixed_input_size": False, "classifier": "head"}
    (tmp_path / "config.json").write_text(json.dumps(content | {"pretrained_cfg": cfg}))
    for args, size in (
        ({}, (64, 96)),
        ({"img_size": 32}, (32, 32)),
        ({"dynamic_img_size": False}, (224, 224)),
    ):
        config = BackboneConfig(name=f"local-dir:{tmp_path}", pretrained=False, args=args)
        skeleton = build_skeleton(config, 2)
        spec = InputSpec.from_backbone(skeleton)
        assert (spec.height, spec.width) == size
        check_input(config, skeleton, (3, *size))


def test_an_argument_that_the_model_ignores_is_named() -> None:
    with pytest.raises(BackboneError, match=r"1 channels .*: leave in_chans out of backbone\.args"):
        check("csatv2", 512, in_chans=1)
    with pytest.raises(BackboneError, match="leave img_size out of"):
        check("crossvit_9_240", 64, img_size=64)


@pytest.mark.parametrize(("channels", "works"), [(1, True), (3, True), (4, False)])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18", "tresnet_m", "crossvit_9_240"])
def test_channels_are_taken_or_refused(name: str, channels: int, works: bool) -> None:
    model = build_skeleton(BackboneConfig(name=name, args=SMALL.get(name, {}) | {"in_chans": channels}), 2)
    if works:
        spec = InputSpec.from_backbone(model)
        assert spec.channels == len(spec.mean) == channels
        check_model_input(model, (channels, spec.height, spec.width))
    else:
        with pytest.raises(DataError, match=r"4 channels; .*: set in_chans = 1 or in_chans = 3 in backbone\.args"):
            InputSpec.from_backbone(model)


@pytest.mark.parametrize("name", ["levit_128s", "mixer_s32_224", "vit_tiny_patch16_224", "volo_d1_224"])
def test_the_size_that_a_model_was_built_for_is_its_own(name: str) -> None:
    """For some of them no patch embedding says it."""
    config = BackboneConfig(name=name, args=SMALL.get(name, {}) | {"img_size": 64})
    spec = InputSpec.from_backbone(build_skeleton(config, 2))
    assert (spec.height, spec.width) == (64, 64)


class _ReadsValues(VisionTransformer):
    def forward(self, x: Tensor) -> Tensor:
        assert int(torch.ones(1, device=x.device).item()) == 1
        found: Tensor = super().forward(x)
        return found


@register_model
def input_check_test_reads_values(num_classes: int, **_: Any) -> nn.Module:
    """A model whose forward needs values."""
    return _ReadsValues(img_size=32, num_classes=num_classes, **VIT)


def test_a_model_that_needs_values_is_tried_with_some() -> None:
    config = BackboneConfig(name="input_check_test_reads_values", pretrained=False)
    skeleton = build_skeleton(config, 2)
    assert next(skeleton.parameters()).is_meta
    check_input(config, skeleton, (3, 32, 32))
    with pytest.raises(BackboneError, match=r"Input height \(48\) doesn't match model \(32\)"):
        check_input(config, skeleton, (3, 48, 48))


def test_data_for_a_model_is_held_to_its_size() -> None:
    with pytest.raises(BackboneError, match="VisionTransformer cannot take images of 28 x 28 pixels and 1 channels"):
        load_data("digits", tiny_vit(), size=28)
    with pytest.raises(BackboneError, match=r"set img_size = 56 in backbone\.args"):
        load_data("digits", "quickstart", size=56)
    model = build_backbone(BackboneConfig(name="quickstart", args={"img_size": 56}), 10)
    assert load_data("digits", model).train.batch(slice(0, 1), "cpu")[0].shape == (1, 1, 56, 56)
