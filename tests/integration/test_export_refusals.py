"""Exports that are refused: wrong models, wrong arguments, no place to write."""

import os

import pytest
import timm
import torch
from support.exports import VIT, export, searched
from torch import nn

from glorasearch.errors import ExportError
from glorasearch.export import BackboneFacts, export_timm
from glorasearch.space import Subnet


def not_finite(model: nn.Module) -> nn.Module:
    model.get_parameter("blocks.1.attn.qkv.weight").data[0, 0] = float("nan")
    return model


def altered(model: nn.Module) -> nn.Module:
    model.get_parameter("blocks.0.mlp.fc1.weight").data *= 1.5
    return model


def wrong_shape(model: nn.Module) -> nn.Module:
    model.head = nn.Linear(24, 11)
    return model


def extra(model: nn.Module) -> nn.Module:
    model.register_parameter("left_over", nn.Parameter(torch.zeros(1)))
    return model


def hooked(model: nn.Module) -> nn.Module:
    model.get_submodule("blocks.0").register_forward_hook(lambda module, inputs, output: None)
    return model


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (not_finite, r"1 tensors .* not finite, the first is 'blocks\.1\.attn\.qkv\.weight'"),
        (altered, r"merged model against the active subnet: outputs differ by .*, allowed is"),
        (wrong_shape, r"head\.weight is \(\(11, 24\), .*, but timm builds \(\(10, 24\)"),
        (extra, r"unexpected are \['left_over'\] \(1\)"),
        (hooked, r"blocks\.0 \(Block\) has hooks"),
        (nn.Module.double, r"torch\.float64\) in the merged model, but timm builds .*torch\.float32"),
    ],
)
def test_a_wrong_model_is_refused_and_nothing_is_written(tmp_path, spoil, message):
    supernet, subnet, images = searched("vit")
    with pytest.raises(ExportError, match=message):
        export(supernet, subnet, images, tmp_path / "x", model=spoil(supernet.merged(subnet)))
    assert os.listdir(tmp_path) == []


def test_an_adapted_model_is_refused(tmp_path):
    supernet, subnet, images = searched("vit")
    with pytest.raises(ExportError, match=r"blocks\.0\.attn\.qkv \(AdaptedLinear\) is still an adapted module"):
        export(supernet, subnet, images, tmp_path / "x", model=supernet.model)


def test_a_missing_argument_of_the_architecture_is_found_by_loading(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", **VIT, act_layer="relu", num_classes=10).eval()
    facts = BackboneFacts(
        architecture="vit_tiny_patch16_224", model_args=VIT, num_classes=10, pretrained_cfg=model.pretrained_cfg
    )
    with pytest.raises(ExportError, match="an argument of the architecture is missing"):
        export_timm(
            model,
            tmp_path / "x",
            backbone=facts,
            inputs=torch.randn(2, 3, 16, 16),
            reference=model,
            subnet=Subnet({}),
        )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": torch.zeros(0, 1, 16, 16)}, r"found \(0, 1, 16, 16\)"),
        ({"reference": torch.zeros(5, 9)}, r"outputs \(5, 10\) and \(5, 9\) for 5 inputs"),
        (
            {"reference": torch.full((5, 10), float("nan"))},
            "the outputs of the latter are not finite: the training has diverged",
        ),
        ({"class_names": ["a"]}, "1 class names were given for 10 classes"),
        ({"metrics": {"loss": float("inf")}}, "metric 'loss' is inf, which cannot be written as JSON"),
    ],
)
def test_wrong_arguments(tmp_path, changes, message):
    with pytest.raises(ExportError, match=message):
        export(*searched("vit"), tmp_path / "x", **changes)
    assert os.listdir(tmp_path) == []


def test_no_place_to_write(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match="cannot be written"):
        export(*searched("vit"), tmp_path / "file" / "x")
