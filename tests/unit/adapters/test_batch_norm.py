"""Which batch norms can take a bias over: those that alone read a layer's output; and that nothing changes by it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from glorasearch.adapters.batch_norm import following_batch_norms
from glorasearch.adapters.rebuild import express_biases
from glorasearch.errors import ExportError
from glorasearch.export import check_exportable

SMALL = {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16), "in_chans": 1}
MODELS: dict[str, tuple[dict[str, Any], int, set[str]]] = {
    "resnet18": (SMALL, 13, set()),
    "resnet10t": ({"channels": (8, 8, 16, 16), "in_chans": 1}, 15, set()),
    "seresnet18": (SMALL, 13, set()),
    "resnext50_32x4d": (SMALL | {"cardinality": 2, "base_width": 32}, 17, set()),
    "mobilenetv3_small_050": ({"in_chans": 1}, 34, set()),
    "resnetv2_18d": (
        {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16), "stem_chs": 8, "in_chans": 1},
        6,
        {"stages.0.blocks.0.conv2", "stages.1.blocks.0.downsample.conv"},
    ),
    "levit_128s": ({"img_size": 32, "in_chans": 1, "depth": (1, 1, 1)}, 26, set()),
    "densenet121": (
        {"block_config": (2, 2), "growth_rate": 4, "in_chans": 1},
        5,
        {"features.denseblock1.denselayer1.conv2"},
    ),
}
"""Name → arguments; how many convolutions without a bias have a batch norm to themselves, and some that have not."""


class Toy(nn.Module):
    """Some layers, called as `then` says after the first convolution."""

    def __init__(self, then: Then) -> None:
        super().__init__()
        self.then = then
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.other = nn.BatchNorm2d(4)
        self.without = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self, x, self.conv(x))


Then = Callable[[Toy, Tensor, Tensor], Tensor]
ALONE: dict[str, Then] = {
    "plain": lambda m, x, y: m.norm(y),
    "a view goes in": lambda m, x, y: m.norm(y.flatten(2).unflatten(2, y.shape[2:])).view_as(y),
    "something else asks for the shape": lambda m, x, y: m.norm(y).reshape(y.shape[0], y.size(1), -1),
}
NOT_ALONE: dict[str, Then] = {
    "sum": lambda m, x, y: m.norm(y) + y,
    "changed in place": lambda m, x, y: m.norm(y).add(y.mul_(2)),
    "keyword": lambda m, x, y: m.norm(y) + torch.add(input=x, other=y),
    "list": lambda m, x, y: torch.cat([m.norm(y), y]),
    "a view with the channels elsewhere goes in": lambda m, x, y: m.norm(y.transpose(1, 2)),
    "a view is read": lambda m, x, y: m.norm(y) + y.flatten(2).unflatten(2, y.shape[2:]),
    "the channels are mixed": lambda m, x, y: m.norm(y.reshape(4, -1).t().reshape(y.shape)),
    "two norms": lambda m, x, y: m.norm(y) + m.other(y),
    "layer twice": lambda m, x, y: m.norm(y) + m.other(m.conv(x + 1)),
    "norm twice": lambda m, x, y: m.norm(y) + m.norm(x.expand(-1, 4, -1, -1)),
    "no statistics": lambda m, x, y: m.without(y),
    "no norm": lambda m, x, y: y,
}


@pytest.mark.parametrize("then", ALONE.values(), ids=ALONE)
def test_a_batch_norm_that_alone_reads_the_output(then: Then) -> None:
    assert following_batch_norms(Toy(then), torch.randn(1, 1, 4, 4)) == {"conv": "norm"}


@pytest.mark.parametrize("then", NOT_ALONE.values(), ids=NOT_ALONE)
def test_otherwise_there_is_none(then: Then) -> None:
    model, images = Toy(then), torch.randn(2, 1, 4, 4)
    model(images)
    assert following_batch_norms(model, images) == {}


def test_a_model_that_cannot_run_on_such_images_has_none() -> None:
    assert following_batch_norms(Toy(ALONE["plain"]), torch.randn(1, 3, 5, 5)) == {}


@pytest.mark.parametrize("size", [5, None])
def test_the_model_stays_as_it_is(size: int | None) -> None:
    model = Toy(ALONE["plain"]).train()
    model.other.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    following_batch_norms(model, torch.randn(2, 1, 5, 5) if size else torch.randn(2))
    assert [module.training for module in model.modules()] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_bias_in_the_batch_norm_is_a_bias_in_the_layer(name: str) -> None:
    """Found on the meta device, checked with numbers."""
    arguments, count, others = MODELS[name]
    with torch.device("meta"):
        found = following_batch_norms(timm.create_model(name, **arguments), torch.empty(1, 1, 32, 32))
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **arguments).double().eval()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    without = {
        key
        for key, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is None
    }
    assert len(found.keys() & without) == count
    assert others <= without - found.keys()

    biased, folded = copy.deepcopy(model), copy.deepcopy(model)
    for layer in found.keys() & without:
        bias = torch.randn(len(model.get_submodule(layer).weight), dtype=torch.float64)
        biased.get_submodule(layer).bias = nn.Parameter(bias)
        folded.get_submodule(found[layer]).running_mean -= bias
    images = torch.randn(3, 1, 32, 32, dtype=torch.float64)
    outputs = biased(images)
    assert (folded(images) - outputs).abs().max() <= 1e-10 * outputs.abs().max()
    assert (model(images) - outputs).abs().max() >= 1e-3 * outputs.abs().max(), "the biases do something"


def test_biases_that_batch_norms_take_need_no_argument() -> None:
    layers = ["layer1.0.conv1", "layer1.0.conv2", "layer2.0.downsample.0"]
    assert check_exportable("resnet18", SMALL, layers) == {**SMALL, "layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
    assert express_biases("resnet18", SMALL, layers).folded == {
        "layer1.0.conv1": "layer1.0.bn1",
        "layer1.0.conv2": "layer1.0.bn2",
        "layer2.0.downsample.0": "layer2.0.downsample.1",
    }


def test_a_layer_that_neither_argument_nor_batch_norm_serves_is_named() -> None:
    layers = ["stages.0.blocks.0.conv1", "stages.0.blocks.0.conv2"]
    with pytest.raises(ExportError, match=r"gives a bias to stages\.0\.blocks\.0\.conv2, and no batch norm"):
        check_exportable("resnetv2_18d", {}, layers)
