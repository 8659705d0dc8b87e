"""What timm needs to build the exported model at the size that the backbone was built for."""

from __future__ import annotations

from pathlib import Path

import timm
from safetensors.torch import save_file

from glorasearch.adapters.rebuild import plain_state
from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.export import BackboneFacts


def test_a_model_that_takes_other_sizes_is_rebuilt_at_its_own() -> None:
    model = timm.create_model("test_vit", num_classes=3)
    facts = BackboneFacts.from_model(model)
    shape = (3, 32, 32)
    assert facts.export_args(shape)["img_size"] == [160, 160]
    assert "img_size" not in facts.export_args((3, 160, 160))
    built = plain_state("test_vit", facts.export_args(shape), 3, facts.export_cfg(shape))
    assert {name: tensor.shape for name, tensor in built.items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }


def test_a_size_that_was_given_stays() -> None:
    facts = BackboneFacts.from_model(timm.create_model("test_vit", num_classes=3, img_size=64))
    assert facts.export_args((3, 32, 32))["img_size"] == 64


def test_a_file_of_ones_own_has_not_the_licence_of_timms_weights(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=3)
    assert BackboneFacts.from_model(model).export_cfg((3, 160, 160))["license"] == "apache-2.0"
    save_file(model.state_dict(), file := tmp_path / "own.safetensors")
    own = build_backbone(BackboneConfig(name="test_vit", checkpoint=str(file)), 3, seed=0)
    assert "license" not in BackboneFacts.from_model(own).export_cfg((3, 160, 160))
