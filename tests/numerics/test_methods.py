"""The fixed methods as they were published, written once more as modules around a layer, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import Layers
from torch import Tensor, nn

from glorasearch.choices import options_of, parse_choice
from glorasearch.errors import SearchSpaceError
from glorasearch.space import LayerShape, SearchSpace, Site
from glorasearch.supernet import Supernet

TOLERANCE = {"atol": 1e-11, "rtol": 1e-11}
ANY = {"include": ["layer", "qkv"], "types": ["linear", "conv2d", "norm"]}
SSF_LAYERS = {
    "linear": (lambda: nn.Linear(7, 6), (2, 4, 7)),
    "linear without bias": (lambda: nn.Linear(7, 6, bias=False), (2, 4, 7)),
    "patch embedding": (lambda: nn.Conv2d(3, 6, 2, stride=2), (2, 3, 6, 4)),
    "layer norm": (lambda: nn.LayerNorm(6), (2, 4, 6)),
    "group norm": (lambda: nn.GroupNorm(2, 6), (2, 6, 3, 3)),
}


def supernet_of(layer: nn.Module, choices: dict[str, list[str]], name: str = "layer", **content: Any) -> Supernet:
    layers = ANY | {"include": [name]}
    space = SearchSpace.from_dict({"name": "method", "layers": layers, "choices": choices} | content)
    supernet = Supernet(Layers({name: layer}, nn.Linear(2, 2)).double().eval(), space)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in supernet.adapter_parameters().values():
            parameter.normal_(std=0.5, generator=generator)
    return supernet


def compare(supernet: Supernet, x: Tensor, expected: Tensor) -> None:
    subnet = supernet.space.largest()
    with torch.no_grad(), supernet.activate(subnet):
        torch.testing.assert_close(supernet(x), expected, **TOLERANCE)
    torch.testing.assert_close(supernet.merged(subnet)(x), expected, **TOLERANCE)


def parts_of(supernet: Supernet, tensor: str) -> dict[str, Tensor]:
    (layer,) = supernet.adapted.values()
    return dict(layer.support_of(tensor).named_parameters())


@pytest.mark.parametrize("form", SSF_LAYERS)
def test_ssf_is_y_times_scale_plus_shift(form: str) -> None:
    """`ssf_ada` of the published code, scale = 1 + a, on whatever layer made y."""
    make, shape = SSF_LAYERS[form]
    torch.manual_seed(0)
    layer = make().double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(shape, dtype=torch.float64)
    supernet = supernet_of(layer, {"A": ["gain"], "E": ["vector"]})
    scale, shift = 1 + parts_of(supernet, "A")["gain"], parts_of(supernet, "E")["vector"]
    channels = (1, -1, 1, 1) if x.ndim == 4 else (-1,)
    compare(supernet, x, layer(x) * scale.view(channels) + shift.view(channels))
    assert supernet.space.parameters(supernet.space.largest()) == 2 * 6


def test_ssf_learns_one_scale_for_weight_and_bias() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(7, 6).double(), torch.randn(9, 7, dtype=torch.float64)
    supernet = supernet_of(layer, {"A": ["gain"], "E": ["vector"]})
    upstream = torch.randn(9, 6, dtype=torch.float64)
    with supernet.activate(supernet.space.largest()):
        supernet(x).backward(upstream)
    torch.testing.assert_close(parts_of(supernet, "A")["gain"].grad, (upstream * layer(x)).sum(0), **TOLERANCE)


def test_a_gain_gives_no_layer_a_bias() -> None:
    supernet = supernet_of(nn.Linear(7, 6, bias=False), {"A": ["gain"]})
    assert supernet.gains_bias() == []
    assert supernet.merged(supernet.space.largest()).get_submodule("layer").bias is None


class RepAdapter(nn.Module):
    """The published module: a 1x1 convolution, another one in groups, and a skip connection."""

    def __init__(self, inputs: int, hidden: int, groups: int, scale: float) -> None:
        super().__init__()
        self.conv_A = nn.Conv1d(inputs, hidden, 1, groups=1, bias=True)
        self.conv_B = nn.Conv1d(hidden, inputs, 1, groups=groups, bias=True)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        x = self.conv_B(self.conv_A(x)) * self.scale + x
        return x.transpose(1, 2)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(1, 7), st.floats(0.1, 5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_repadapter_is_the_published_module(
    groups: int, each: int, width: int, outs: int, scale: float, bias: bool
) -> None:
    """For any number of groups, hidden units and channels."""
    torch.manual_seed(0)
    hidden, inputs = groups * each, groups * width
    hidden = min(hidden, inputs // groups * groups)
    each = hidden // groups
    layer = nn.Linear(inputs, outs, bias).double()
    supernet = supernet_of(
        layer, {"A": [f"repadapter:{hidden}"]}, options={"repadapter": {"scale": scale, "groups": groups}}
    )
    theirs = RepAdapter(inputs, hidden, groups, scale).double()
    own = parts_of(supernet, "A")
    # Theirs numbers the hidden units group by group, ours in turns.
    order = [unit * groups + group for group in range(groups) for unit in range(each)]
    with torch.no_grad():
        theirs.conv_A.weight.copy_(own["rep_down"][order].unsqueeze(-1))
        theirs.conv_A.bias.copy_(own["rep_down_bias"][order])
        up = own["rep_up"][order].view(groups, each, width)
        theirs.conv_B.weight.copy_(up.transpose(1, 2).reshape(inputs, each, 1))
        theirs.conv_B.bias.copy_(own["rep_up_bias"])
    x = torch.randn(2, 3, inputs, dtype=torch.float64)
    compare(supernet, x, layer(theirs(x)))
    published = sum(parameter.numel() for parameter in theirs.parameters())
    assert supernet.space.parameters(supernet.space.largest()) == published


def test_repadapter_starts_as_published() -> None:
    """conv_A Xavier uniform, conv_B and both biases zero."""
    space = SearchSpace.from_dict({"name": "x", "layers": ANY | {"include": ["*"]}, "choices": {"A": ["repadapter:8"]}})
    own = parts_of(Supernet(Layers({"layer": nn.Linear(64, 5)}, nn.Linear(2, 2)), space), "A")
    bound = (6 / (64 + 8)) ** 0.5
    assert 0.95 * bound < float(own["rep_down"].detach().abs().max()) <= bound
    assert all(not bool(own[name].any()) for name in ("rep_down_bias", "rep_up", "rep_up_bias"))


def test_groups_that_do_not_divide_the_inputs_are_refused() -> None:
    with pytest.raises(SearchSpaceError, match=r"'repadapter:2' has 2 groups, which do not divide the 7 inputs"):
        supernet_of(nn.Linear(7, 6), {"A": ["repadapter:2"]})


@pytest.mark.parametrize("rank", [1, 3])
def test_lora_of_query_key_and_value(rank: int) -> None:
    """Three linear layers, each with its LoRA, are one fused layer with `lora_qkv`."""
    torch.manual_seed(0)
    thirds = [nn.Linear(6, 5).double() for _ in range(3)]
    fused = nn.Linear(6, 15).double()
    with torch.no_grad():
        fused.weight.copy_(torch.cat([third.weight for third in thirds]))
        fused.bias.copy_(torch.cat([third.bias for third in thirds]))
    supernet = supernet_of(fused, {"B": [f"lora_qkv:{rank}"]}, name="qkv")
    own = parts_of(supernet, "B")
    x = torch.randn(2, 4, 6, dtype=torch.float64)
    outputs = [
        third(x) + x @ own["qkv_up"][index].T @ own["qkv_down"][5 * index : 5 * index + 5].T
        for index, third in enumerate(thirds)
    ]
    compare(supernet, x, torch.cat(outputs, dim=-1))
    assert supernet.space.parameters(supernet.space.largest()) == 3 * rank * (6 + 5)


@pytest.mark.parametrize("centre", [-1.0, 1.0])
@pytest.mark.parametrize(("ins", "outs", "count"), [(6, 5, 7), (4, 4, 16), (1, 3, 2), (5, 1, 3)])
def test_fourierft_of_query_and_value(bench: Any, ins: int, outs: int, count: int, centre: float) -> None:
    """`fourier` of two layers of a third of the size, and a key as it was."""
    torch.manual_seed(0)
    fused, options = nn.Linear(ins, 3 * outs).double(), {"scale": 20.0, "centre": centre, "width": 2.0}
    supernet = supernet_of(fused, {"B": [f"fourier_qv:{count}"]}, name="qkv", options={"fourier_qv": options})
    thirds = list(fused.weight.detach().chunk(3))
    for index, row in ((0, 0), (2, 1)):
        alone = supernet_of(nn.Linear(ins, outs), {"B": [f"fourier:{count}"]}, options={"fourier": options})
        with torch.no_grad():
            parts_of(alone, "B")["coefficients"].copy_(parts_of(supernet, "B")["qv_coefficients"][row])
        (layer,) = alone.adapted.values()
        thirds[index] = thirds[index] + alone.merged_layer("layer", alone.space.largest())[0] - layer.weight_view
    x = torch.randn(2, 4, ins, dtype=torch.float64)
    compare(supernet, x, x @ torch.cat(thirds).T + fused.bias)
    assert supernet.space.parameters(supernet.space.largest()) == 2 * count


def test_fourierft_of_a_query_apart_from_the_others() -> None:
    """On a layer that is no fused qkv it is `fourier`."""
    torch.manual_seed(0)
    layer, options = nn.Linear(6, 5).double(), {"scale": 20.0}
    apart = supernet_of(layer, {"B": ["fourier_qv:7"]}, options={"fourier_qv": options})
    alone = supernet_of(layer, {"B": ["fourier:7"]}, options={"fourier": options})
    with torch.no_grad():
        values = parts_of(apart, "B")["qv_coefficients"].normal_()
        parts_of(alone, "B")["coefficients"].copy_(values[0])
    merged = [one.merged_layer("layer", one.space.largest())[0] for one in (apart, alone)]
    assert torch.equal(*merged)
    assert not torch.equal(merged[0], layer.weight)
    assert apart.space.parameters(apart.space.largest()) == 7


@pytest.mark.parametrize(
    ("layer", "text", "message"),
    [
        (LayerShape("mlp.fc1", 4, 12), "fourier_qv:49", "has entries above 48"),
        (LayerShape("attn.qkv", 4, 12), "fourier_qv:17", "has entries above 16"),
        (LayerShape("attn.qkv", 4, 6), "lora_qkv:3", "has a rank above 2"),
    ],
)
def test_what_a_layer_is_too_small_for(layer: LayerShape, text: str, message: str) -> None:
    choice = parse_choice(text)
    with pytest.raises(SearchSpaceError, match=message):
        choice.check(Site("B", layer, options_of(choice.name, {})))


def test_dropout_of_hidden_units() -> None:
    """As the published module has it between its two convolutions, in training only; d passes by."""
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 5).double(), torch.randn(2, 3, 8, dtype=torch.float64)
    supernet = supernet_of(layer, {"A": ["repadapter:4"]}, options={"repadapter": {"groups": 1}})
    own, subnet = parts_of(supernet, "A"), supernet.space.largest()
    supernet.set_dropout(0.5)

    def expected(p: float) -> Tensor:
        torch.manual_seed(7)
        hidden = torch.dropout((x @ own["rep_down"].T).flatten(0, 1), p, True).view(2, 3, 4)
        return layer(x + (hidden + own["rep_down_bias"]) @ own["rep_up"] + own["rep_up_bias"])

    with torch.no_grad(), supernet.activate(subnet):
        torch.manual_seed(7)
        dropped = supernet.train()(x)
        torch.testing.assert_close(dropped, expected(0.5), **TOLERANCE)
        torch.testing.assert_close(supernet.eval()(x), expected(0.0), **TOLERANCE)
        assert (dropped - expected(0.0)).abs().max() > 0.1
