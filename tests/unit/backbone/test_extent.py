"""Arguments that ask for a model beyond all sense cost no memory and little time."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import timm
from torch.nn.modules import module as hooks

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.backbone.extent import MOST_TENSORS
from glorasearch.data import InputSpec
from glorasearch.errors import BackboneError, DataError


def peak() -> int:
    """MiB that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"img_size": 1_000_000}, "would have .* GiB or more, this machine has"),
        ({"embed_dim": 1_000_000}, "would have .* GiB or more, this machine has"),
        ({"depth": 100_000}, f"would have more than {MOST_TENSORS:,} tensors, more than any model of timm"),
    ],
)
def test_numbers_of_a_model_beyond_all_sense(args: dict[str, Any], said: str) -> None:
    before = peak()
    with pytest.raises(BackboneError, match=f"backbone 'test_vit' {said}.*make the numbers in backbone.args smaller"):
        build_backbone(BackboneConfig(name="test_vit", pretrained=False, args=args), classes=3)
    assert peak() - before < 500
    assert not hooks._global_parameter_registration_hooks


def test_an_input_that_a_backbone_asks_for_has_a_limit_too() -> None:
    model = timm.create_model("test_resnet", pretrained_cfg_overlay={"input_size": (3, 1_000_000, 1_000_000)})
    with pytest.raises(DataError, match="size 1,000,000 x 1,000,000; at most 4,096 pixels on an edge are allowed"):
        InputSpec.from_backbone(model)
