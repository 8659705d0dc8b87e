from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform

from glorasearch.data import DataConfig, InputSpec, load_splits
from glorasearch.errors import DataError


def build(**arguments: Any) -> torch.nn.Module:
    model: torch.nn.Module = timm.create_model("vit_tiny_patch16_224", depth=1, **arguments)
    return model


def test_a_backbone_says_what_it_wants() -> None:
    spec = InputSpec.from_backbone(build())
    assert spec == InputSpec(3, 224, 224, (0.5,) * 3, (0.5,) * 3, "bicubic", 0.9, "center")


def test_a_backbone_built_otherwise_is_taken_at_its_word() -> None:
    model = timm.create_model("deit_tiny_patch16_224", depth=1, img_size=(32, 48), in_chans=1)
    spec = InputSpec.from_backbone(model)
    assert (spec.channels, spec.height, spec.width) == (1, 32, 48)
    assert spec.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "mixer_s32_224"])
def test_other_architectures(name: str) -> None:
    model = timm.create_model(name, in_chans=1)
    assert InputSpec.from_backbone(model).channels == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_first_convolution_behind_rearranged_pixels(channels: int) -> None:
    """TResNet's takes 48 channels of an image of 3."""
    with torch.device("meta"):
        model = timm.create_model("tresnet_m", in_chans=channels)
    assert model.get_submodule("body.conv1.conv").in_channels == 16 * channels
    assert InputSpec.from_backbone(model).channels == channels


def test_an_image_may_be_padded_more_than_cropped() -> None:
    with torch.device("meta"):
        model = timm.create_model("volo_d4_448")
    assert InputSpec.from_backbone(model).crop_pct == 1.15


def test_overrides() -> None:
    spec = InputSpec.from_backbone(build())
    assert spec.override(size=96, mean=[0.1], std=(0.1, 0.2, 0.3)) == InputSpec(
        3, 96, 96, (0.1, 0.1, 0.1), (0.1, 0.2, 0.3), "bicubic", 0.9, "center"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": 4}, "4 channels"),
        ({"height": 0}, "size 0"),
        ({"mean": (0.5,)}, "mean"),
        ({"std": (0.5, 0.0, 0.5)}, "std"),
        ({"interpolation": "cubic"}, "'cubic'; allowed are nearest"),
        ({"crop_pct": 0.0}, "crop_pct"),
        ({"crop_pct": float("inf")}, "crop_pct"),
        ({"crop_mode": "middle"}, "crop_mode"),
    ],
)
def test_wrong_values_are_refused(change: dict[str, Any], words: str) -> None:
    values: dict[str, Any] = {"channels": 3, "height": 8, "width": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    with pytest.raises(DataError, match=words):
        InputSpec(**(values | change))


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(24, 24), (16, 24)])
@pytest.mark.parametrize("crop_pct", [0.8, 1.25])
def test_images_are_what_timm_evaluates_on(
    crop_mode: str, size: tuple[int, int], crop_pct: float, write_folder: Any
) -> None:
    folder = write_folder("set", {"a": 5, "b": 5})
    spec = InputSpec(3, *size, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), "bilinear", crop_pct, crop_mode)
    transform = create_transform(
        (3, *size), mean=spec.mean, std=spec.std, interpolation="bilinear", crop_pct=crop_pct, crop_mode=crop_mode
    )
    expected = [transform(Image.open(file)) for file in sorted(folder.glob("*/*.png"))]
    splits = load_splits(DataConfig(source=f"folder:{folder}"), spec)
    for split in (splits.train, splits.search, splits.test):
        for image in split.batch(slice(None))[0]:
            assert any(torch.equal(image, other) for other in expected)
