import pytest
import timm
import torch
from torch import nn

from glorasearch.adapters import adaptable_layers
from glorasearch.adapters.rebuild import plain_state
from glorasearch.errors import ExportError
from glorasearch.export import BackboneFacts, check_exportable
from glorasearch.export.verify import compare_outputs, evaluating
from glorasearch.space import SearchSpace

VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
SWIN = {"img_size": 16, "patch_size": 2, "embed_dim": 12, "depths": (1, 1), "num_heads": (2, 2), "window_size": 4}


def test_nothing_gained_needs_nothing():
    assert check_exportable("vit_tiny_patch16_224", VIT | {"drop_path_rate": 0.1, "qkv_bias": False}, []) == VIT | {
        "qkv_bias": False
    }


@pytest.mark.parametrize(
    ("architecture", "args"), [("vit_tiny_patch16_224", VIT), ("swin_tiny_patch4_window7_224", SWIN)]
)
def test_qkv_bias(architecture, args):
    layer = "layers.0.blocks.0.attn.qkv" if "swin" in architecture else "blocks.1.attn.qkv"
    result = check_exportable(architecture, args | {"qkv_bias": False}, [layer])
    assert result["qkv_bias"] is True
    assert f"{layer}.bias" in plain_state(architecture, result)


def test_all_biases_of_a_vit_without_any():
    layers = [f"blocks.0.{name}" for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    result = check_exportable("vit_tiny_patch16_224", VIT | {"qkv_bias": False, "proj_bias": False}, layers)
    assert result == VIT | {"qkv_bias": True, "proj_bias": True}


def test_a_layer_that_never_has_a_bias_is_named():
    layers = ["layers.0.blocks.0.attn.qkv", "layers.1.downsample.reduction"]
    with pytest.raises(ExportError, match=r"no argument that gives a bias to layers\.1\.downsample\.reduction, and"):
        check_exportable("swin_tiny_patch4_window7_224", SWIN | {"qkv_bias": False}, layers)


def test_split_biases_are_not_taken_for_the_layers_own():
    args = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2, "qkv_bias": False}
    with pytest.raises(ExportError, match=r"gives a bias to blocks\.0\.attn\.qkv"):
        check_exportable("beit_base_patch16_224", args, ["blocks.0.attn.qkv"])


def test_an_argument_that_only_the_models_class_knows():
    result = check_exportable("poolformerv2_s12", {}, ["stages.0.blocks.0.mlp.fc1"])
    assert result["mlp_bias"] is True


def test_layers_are_asked_whether_they_hold_a_bias():
    """LeViT's batch norms read the flattened outputs of linear layers; BEiT's `qkv` has its biases elsewhere."""
    levit = timm.create_model("levit_128s", num_classes=3, img_size=32, depth=(1, 1, 1))
    assert all(layer.bias or layer.holds_bias for layer in adaptable_layers(levit))
    beit = timm.create_model("beit_base_patch16_224", num_classes=3, **VIT)
    assert {layer.name for layer in adaptable_layers(beit) if not layer.holds_bias} == {
        f"blocks.{block}.attn.qkv" for block in (0, 1)
    }
    choices = {"B": ["none", "lora:2"], "C": ["none", "vector"], "D": ["none", "vector"], "E": ["vector"]}
    bound = SearchSpace.from_dict({"name": "all", "choices": choices}).bind(adaptable_layers(beit))
    assert [gene.tensor for gene in bound.genes if gene.layer == "blocks.0.attn.qkv"] == ["B"]
    assert [gene.tensor for gene in bound.genes if gene.layer == "blocks.0.attn.proj"] == ["B", "C", "D", "E"]


def test_wrong_questions():
    with pytest.raises(ExportError, match="no layers nosuch"):
        check_exportable("vit_tiny_patch16_224", VIT, ["nosuch"])
    with pytest.raises(ExportError, match="timm cannot build 'vit_nosuch'"):
        check_exportable("vit_nosuch", {}, [])
    with pytest.raises(ExportError, match=r"'act_layer' is .* cannot be written as JSON"):
        check_exportable("vit_tiny_patch16_224", VIT | {"act_layer": nn.GELU}, [])


def test_the_global_generator_is_not_touched():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    plain_state("vit_tiny_patch16_224", VIT)
    assert torch.equal(torch.get_rng_state(), before)


def test_facts_of_a_model_that_timm_did_not_build():
    with pytest.raises(ExportError, match="Linear does not record how timm built it"):
        BackboneFacts.from_model(nn.Linear(2, 2))


def test_evaluating_restores_every_mode():
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, False]


def test_outputs_are_compared_in_whole_float32():
    """On a GPU convolutions are in TF32 by default, and merged and active ones are rounded differently then."""
    seen = []

    class Model(nn.Module):
        def forward(self, x):
            seen.append(torch.backends.cudnn.allow_tf32)
            return x

    before = torch.backends.cudnn.allow_tf32
    try:
        for allowed in (True, False):
            torch.backends.cudnn.allow_tf32 = allowed
            assert compare_outputs(Model(), torch.ones(2, 3), Model(), 0.0, "the same") == 0
            assert torch.backends.cudnn.allow_tf32 == allowed
    finally:
        torch.backends.cudnn.allow_tf32 = before
    assert seen == [False] * 4


def test_hybrids_of_another_image_size():
    """Their batch norms are found with images of the size that they are built for."""
    layers = ["stages.0.blocks.0.conv1_1x1", "stages.0.blocks.1.conv1_1x1"]
    args = {"img_size": 64, "in_chans": 1}
    assert check_exportable("coatnet_0_rw_224", args, layers) == args
