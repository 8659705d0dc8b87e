"""An adapted layer stands for its base: for models that read it, derive from it, or register it twice."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, GroupNormAct, ScaledStdConv2d, StdConv2d
from torch import Tensor, nn

from glorasearch.adapters import adaptable_layers, head_names, unadaptable_layers
from glorasearch.errors import BackboneError, ExportError
from glorasearch.export.verify import check_finite
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.weights import frozen_digest, tensor_digest
from tests.support.models import Layers, randomise

PLAIN: dict[str, Any] = {"img_size": 28, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 3}
WINDOWS: dict[str, Any] = {
    "img_size": 32, "window_size": 4, "embed_dim": 12, "depths": (1, 1), "num_heads": (2, 4)
}  # fmt: skip
READERS = {
    "beit_base_patch16_224": PLAIN,
    "eva02_tiny_patch14_224": PLAIN,
    "vit_tiny_patch16_dinov3_qkvb": PLAIN | {"img_size": 28},
    "swinv2_tiny_window8_256": WINDOWS,
}


def space(**choices: list[str]) -> SearchSpace:
    offered = choices or {"A": ["none", "vector"], "B": ["none", "vector"], "D": ["none", "vector"]}
    types = ["linear", "conv2d"] if "B" in offered else ["norm"]
    return SearchSpace.from_dict({"name": "mine", "layers": {"include": ["*"], "types": types}, "choices": offered})


def model(name: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    built: nn.Module = timm.create_model(name, num_classes=5, **arguments)
    return built.eval().double()


@torch.no_grad()
def logits(supernet: Supernet, images: Tensor) -> Tensor:
    with supernet.activate(supernet.space.largest()):
        found: Tensor = supernet(images)
    return found


@pytest.mark.parametrize("name", READERS)
def test_a_model_that_reads_weights_computes_with_the_active_ones(name: str) -> None:
    backbone = model(name, in_chans=1, **READERS[name])
    images = torch.randn(2, 1, READERS[name]["img_size"], READERS[name]["img_size"], dtype=torch.float64)
    supernet = Supernet(backbone, space())
    supernet.check_reached(images)
    assert any(name.endswith("qkv") for name in supernet.read)
    assert torch.equal(logits(supernet, images), backbone(images)), "a no-op at the start"
    randomise(supernet)
    assert not torch.allclose(logits(supernet, images), backbone(images))
    merged = supernet.merged(supernet.space.largest())
    torch.testing.assert_close(merged(images), logits(supernet, images), rtol=1e-10, atol=1e-10)


def test_what_is_read_has_a_gradient() -> None:
    backbone = model("beit_base_patch16_224", **PLAIN)
    supernet = Supernet(backbone, space(B=["lora:2"]))
    randomise(supernet)
    with supernet.activate(supernet.space.largest()):
        supernet(torch.randn(1, 3, 28, 28, dtype=torch.float64)).sum().backward()
    parameters = supernet.adapter_parameters()
    assert all(parameters[f"blocks.0.attn.qkv.B.{part}"].grad.abs().max() > 0 for part in ("down", "up"))


def test_an_adapted_layer_answers_what_its_base_answers() -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    supernet = Supernet(
        Layers({"conv": layer, "fc": nn.Linear(2, 3)}, nn.Linear(3, 5)), space(B=["vector"], E=["vector"])
    )
    randomise(supernet)
    adapted: Any = supernet.model.get_submodule("conv")
    for name in ("kernel_size", "stride", "padding", "groups", "in_channels", "out_channels", "padding_mode"):
        assert getattr(adapted, name) == getattr(layer, name)
    assert torch.equal(adapted.weight, layer.weight)
    assert adapted.bias is None
    x = torch.randn(1, 4, 8, 8)
    with supernet.activate(supernet.space.largest()):
        assert adapted.weight.shape == layer.weight.shape
        assert not torch.equal(adapted.weight, layer.weight)
        called = F.conv2d(x, adapted.weight, adapted.bias, adapted.stride, adapted.padding, adapted.dilation, 2)
        torch.testing.assert_close(adapted(x), called)
    linear: Any = supernet.model.get_submodule("fc")
    assert (linear.in_features, linear.out_features) == (2, 3)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = adapted.nothing


DERIVED: dict[str, nn.Module] = {
    "StdConv2d": StdConv2d(4, 6, 3, bias=True),
    "Conv2dSame": Conv2dSame(4, 6, 3, stride=2),
    "ScaledStdConv2d": ScaledStdConv2d(4, 6, 3, padding=1),
    "GroupNormAct": GroupNormAct(4, num_groups=2),
}


@pytest.mark.parametrize("name", DERIVED)
def test_a_derived_class_computes_as_it_does_with_the_merged_weight(name: str) -> None:
    backbone = Layers({"layer": DERIVED[name].double().eval()}, nn.Linear(3, 5).double())
    x = torch.randn(2, 4, 9, 9, dtype=torch.float64)
    shifts = {"B": ["vector", "lora:1"]} if "Conv" in name else {}
    supernet = Supernet(backbone, space(A=["vector"], E=["vector"], **shifts))
    assert torch.equal(logits(supernet, x), backbone(x))
    randomise(supernet)
    merged = supernet.merged(supernet.space.largest())
    assert type(merged.get_submodule("layer")) is type(DERIVED[name])
    assert not torch.allclose(merged(x), backbone(x))
    torch.testing.assert_close(merged(x), logits(supernet, x), rtol=1e-10, atol=1e-10)


def test_a_layer_under_several_names_is_one_layer_everywhere() -> None:
    """CoaT: the frozen state held adapter tensors, and the plain layer stayed in its second place."""
    backbone = Layers({"first": nn.Linear(4, 4), "second": nn.Linear(4, 4)}, nn.Linear(4, 5), calls_head=True)
    backbone.first = backbone.second
    before = {name: value for name, value in backbone.state_dict().items() if not name.startswith("head.")}
    supernet = Supernet(backbone, space(B=["lora:2"]))
    assert list(supernet.adapted) == ["first"]
    assert supernet.model.first is supernet.model.second
    assert frozen_digest(supernet) == tensor_digest(before)
    randomise(supernet)
    x = torch.randn(3, 4)
    merged = supernet.merged(supernet.space.largest())
    assert torch.equal(merged.state_dict()["first.weight"], merged.state_dict()["second.weight"])
    torch.testing.assert_close(merged(x), logits(supernet, x))


class Inner(nn.Linear):
    """A layer with a layer of its own."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.extra = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.extra(x)


def test_layers_that_cannot_be_adapted_are_named_with_the_reason() -> None:
    tied, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = tied.weight
    computed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    layers = {"tied": tied, "other": other, "computed": computed, "outer": Inner(), "plain": nn.Linear(4, 4)}
    layers["bare"] = nn.LayerNorm(4, elementwise_affine=False)
    backbone = Layers(layers, nn.Linear(4, 5), calls_head=True)
    assert [layer.name for layer in adaptable_layers(backbone)] == ["outer", "plain"]
    assert unadaptable_layers(backbone) == {
        "tied": "its weight is also that of other",
        "other": "its weight is also that of tied",
        "computed": "the weight of ParametrizedLinear is not of the shape of such a layer, or computed",
        "outer.extra": "it is a part of outer, which is adapted",
        "bare": "the weight of LayerNorm is None: there is nothing to adapt",
    }
    supernet = randomise(Supernet(backbone, space(B=["lora:2"])))
    x = torch.randn(3, 4)
    torch.testing.assert_close(supernet.merged(supernet.space.largest())(x), logits(supernet, x))


class Deaf(Layers):
    """Reads the weight and not the bias."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.get_submodule("fc").weight)


def test_a_bias_that_nobody_reads_is_refused() -> None:
    supernet = Supernet(Deaf({"fc": nn.Linear(4, 4)}, nn.Linear(4, 5)), space(B=["none"], E=["vector"]))
    with pytest.raises(BackboneError, match=r"reads the weight of fc and not the bias: C, D and E"):
        supernet.check_reached(torch.randn(1, 4))
    Supernet(Deaf({"fc": nn.Linear(4, 4)}, nn.Linear(4, 5)), space(B=["vector"])).check_reached(torch.randn(1, 4))


def test_every_classifier_of_a_model_is_its_head() -> None:
    """VOLO's second one is used in evaluation, and `get_classifier` does not name it."""
    backbone: nn.Module = timm.create_model("volo_d1_224", img_size=64, num_classes=5)
    assert head_names(backbone) == ("head", "aux_head")
    supernet = Supernet(backbone, space(B=["vector"]))
    assert {"head.weight", "aux_head.weight"} <= supernet.head_parameters().keys()
    assert not any("head" in name for name in supernet.frozen_state())
    assert not any("head" in name for name in supernet.adapted)


def test_an_encoder_without_a_classifier_is_a_timm_model() -> None:
    with torch.device("meta"):
        encoder = timm.create_model("qwen3_vit_88m_enc", depth=1)
    with pytest.raises(BackboneError, match=r"Qwen3VitEncoder has no classifier head; .* take the variant with one"):
        head_names(encoder)


def test_inputs_of_any_layout_start_as_the_backbone() -> None:
    """CaiT's talking heads see a permuted tensor, for which torch takes another product."""
    torch.manual_seed(0)
    supernet = Supernet(
        Layers({"fc": nn.Linear(4, 4)}, nn.Linear(4, 5)), space(A=["vector"], B=["lora:2"], E=["vector"])
    )
    x = torch.randn(2, 4, 9, 9).permute(0, 2, 3, 1)
    assert torch.equal(logits(supernet, x), supernet(x))


def test_inf_is_a_fault_of_parameters_only() -> None:
    layer = nn.Linear(2, 2)
    layer.register_buffer("bound", torch.tensor(float("inf")))
    check_finite(layer)
    for name in ("weight", "bound"):
        broken = copy.deepcopy(layer)
        broken.state_dict()[name].fill_(float("inf") if name == "weight" else float("nan"))
        with pytest.raises(ExportError, match=f"not finite, the first is '{name}'"):
            check_finite(broken)
