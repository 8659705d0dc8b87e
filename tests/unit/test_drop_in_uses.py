"""What a model may do with a layer beyond calling it as torch's own: an adapted one does the same, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.models import randomise
from torch import Tensor, nn

from glorasearch.errors import BackboneError
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet

Use = Callable[[Any, Tensor], Tensor]


def space(tensors: str = "ABDE") -> SearchSpace:
    return SearchSpace.from_dict(
        {"name": "mine", "layers": {"include": ["*"]}, "choices": {tensor: ["none", "vector"] for tensor in tensors}}
    )


class Model(nn.Module):
    """A layer, used in some way, before a head."""

    def __init__(self, layer: nn.Module, use: Use) -> None:
        super().__init__()
        self.layer, self.head, self.use = layer, nn.Linear(4, 3), use

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.use(self.layer, x))
        return found


class Compatible(nn.Linear):
    """As a library for low-rank adapters has it: with a scale, a method and a property of its own."""

    def forward(self, input: Tensor, scale: float = 1.0) -> Tensor:
        return super().forward(input) * scale

    def project(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    @property
    def doubled(self) -> Tensor:
        return 2 * self.weight


USES: dict[str, Use] = {
    "further argument": lambda layer, x: layer(x, 0.5),
    "named argument": lambda layer, x: layer(x, scale=0.5),
    "all by name": lambda layer, x: layer(input=x),
    "forward": lambda layer, x: layer.forward(x),
    "method": lambda layer, x: layer.project(x),
    "method and call": lambda layer, x: layer(x) + layer.project(x),
    "property": lambda layer, x: F.linear(x, layer.doubled, layer.bias),
    "data": lambda layer, x: F.linear(x, layer.weight.data, layer.bias.data),
    "arithmetic": lambda layer, x: x @ layer.weight[:].T + layer.bias,
}


def check(layer: nn.Module, use: Use, tensors: str = "ABDE") -> tuple[Supernet, nn.Module, Tensor]:
    torch.manual_seed(0)
    backbone, x = Model(layer, use).double().eval(), torch.randn(5, 4, dtype=torch.float64)
    supernet = Supernet(backbone, space(tensors))
    supernet.check_reached(x)
    return supernet, backbone, x


@pytest.mark.parametrize("use", USES)
def test_what_it_does_is_what_the_merged_model_does(use: str) -> None:
    supernet, backbone, x = check(Compatible(4, 4), USES[use])
    assert torch.equal(supernet(x), backbone(x))
    randomise(supernet)
    before = {name: value.clone() for name, value in supernet.model.layer.base.state_dict().items()}
    with supernet.activate(supernet.space.largest()), torch.no_grad():
        active = supernet(x)
    assert not torch.allclose(active, backbone(x))
    torch.testing.assert_close(active, supernet.merged(supernet.space.largest())(x))
    after = supernet.model.layer.base.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_gained_bias_leaves_no_trace() -> None:
    supernet, _, x = check(nn.Linear(4, 4, bias=False), lambda layer, x: layer(input=x), "E")
    randomise(supernet)
    with supernet.activate(supernet.space.largest()), torch.no_grad():
        active = supernet(x)
    torch.testing.assert_close(active, supernet.merged(supernet.space.largest())(x))
    assert supernet.model.layer.base.bias is None


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda layer, x: layer(x) if type(layer) is nn.Linear else 2 * layer(x), "computes something else"),
        (lambda layer, x: layer(x) if hasattr(layer, "support") else 2 * layer(x), "computes something else"),
        (lambda layer, x: F.linear(x, layer.state_dict()["weight"]), r"does not run with adapters .*KeyError"),
        (lambda layer, x: F.linear(x, layer.get_parameter("weight")), r"does not run with adapters .*AttributeError"),
        (lambda layer, x: F.linear(x, layer.weight), "reads the weight of layer and not the bias"),
        (lambda layer, x: x @ layer.weight.to(layer.bias.device), "reads the weight of layer and not the bias"),
    ],
)
def test_otherwise_it_is_refused_before_the_training(use: Use, said: str) -> None:
    with pytest.raises(BackboneError, match=said):
        check(nn.Linear(4, 4), use)
