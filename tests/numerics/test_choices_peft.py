"""LoRA, FourierFT, bias training and IA3 against PEFT: the same parameters, the same outputs, the same training."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glorasearch.choices import Site, options_of
from glorasearch.choices.fourier import Fourier, entries
from glorasearch.space import LayerShape
from glorasearch.supernet import Supernet

peft = pytest.importorskip("peft")
TOLERANCE = 1e-10


@pytest.fixture
def double() -> Iterator[None]:
    """PEFT makes factors in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def theirs_of(supernet: Supernet, config: Any) -> nn.Module:
    """PEFT's model over a copy of the same layer."""
    (adapted,) = supernet.adapted.values()
    model: nn.Module = nn.ModuleDict({"layer": copy.deepcopy(adapted.base)})
    model.forward = lambda x: model["layer"](x)  # type: ignore[method-assign, index]
    return peft.get_peft_model(model, config)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def assert_equal_outputs(bench: Any, supernet: Supernet, theirs: nn.Module, tolerance: float = TOLERANCE) -> None:
    x, subnet = bench.images(supernet), supernet.space.largest()
    expected = theirs(x).detach()
    assert (expected - supernet(x)).abs().max() > 1e-3
    assert (supernet.merged(subnet)(x) - expected).abs().max() <= tolerance * expected.abs().max()
    assert (bench.active(supernet, subnet, x) - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("form", ["linear", "linear without bias", "qkv", "conv"])
@pytest.mark.parametrize("rank", [1, 4])
def test_lora(bench: Any, form: str, rank: int) -> None:
    supernet = bench.build(form, {"B": [f"lora:{rank}"]}, name="layer")
    bench.randomise(supernet)
    theirs = theirs_of(supernet, peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=["layer"]))
    parts = bench.layer(supernet).support_of("B").parts(f"lora:{rank}")
    found = trainable(theirs)
    assert len(found) == 2
    for name, value in found.items():
        value.data.copy_(parts["down" if "lora_B" in name else "up"].reshape(value.shape))
    assert sum(value.numel() for value in found.values()) == supernet.space.parameters(supernet.space.largest())
    assert_equal_outputs(bench, supernet, theirs)


@pytest.mark.parametrize("seed", [777, 3])
@pytest.mark.parametrize("scale", [150.0, 300.0])
@pytest.mark.parametrize(("ins", "outs"), [(7, 6), (8, 5), (6, 6), (1, 4), (9, 15)])
def test_fourier(bench: Any, ins: int, outs: int, scale: float, seed: int) -> None:
    """In float32, the only precision in which PEFT computes it."""
    count = ins * outs // 2 + 1
    options = {} if (seed, scale) == (777, 300.0) else {"fourier": {"seed": seed, "scale": scale}}
    supernet = bench.build(nn.Linear(ins, outs), {"B": [f"fourier:{count}"]}, options=options, dtype=torch.float32)
    bench.randomise(supernet)
    given = {} if (seed, scale) == (777, 150.0) else {"random_loc_seed": seed, "scaling": scale}
    theirs = theirs_of(supernet, peft.FourierFTConfig(n_frequency=count, target_modules=["layer"], **given))
    layer = theirs.get_submodule("base_model.model.layer")
    assert torch.equal(layer.indices["default"], entries(outs, ins, count, seed, -1.0, 100.0))
    assert layer.fourierft_scaling["default"] == scale
    (spectrum,) = trainable(theirs).values()
    own = bench.layer(supernet).support_of("B").get_parameter("coefficients")
    assert spectrum.shape == own.shape
    with torch.no_grad():
        spectrum.copy_(own)
    assert spectrum.numel() == supernet.space.parameters(supernet.space.largest())
    expected = layer.get_delta_weight("default")
    shift = bench.layer(supernet).support_of("B").contribution(f"fourier:{count}", expected).shift
    assert (shift.dense() - expected).abs().max() <= 2e-6 * expected.abs().max()
    assert_equal_outputs(bench, supernet, theirs, 2e-6)


def test_fourier_starts_at_zero_with_pefts_entries_by_default() -> None:
    site = Site("B", LayerShape("layer", 12, 10), options_of("fourier", {}))
    assert (site.options["scale"], site.options["seed"], site.options["centre"]) == (300.0, 777.0, -1.0)
    parts = {"coefficients": torch.zeros(20, requires_grad=True)}
    shift = Fourier.contribution(parts, torch.zeros(10, 12), site).shift
    assert shift is not None
    assert torch.equal(shift.dense(), torch.zeros(10, 12))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("form", ["linear", "qkv", "conv"])
def test_training_a_bias(bench: Any, form: str) -> None:
    """Steps of plain gradient descent on E are those on the bias itself, which PEFT trains beside a LoRA of zero."""
    supernet = bench.build(form, {"E": ["vector"]}, name="layer")
    theirs = theirs_of(supernet, peft.LoraConfig(r=1, target_modules=["layer"], bias="all"))
    biases = {name: p for name, p in trainable(theirs).items() if name.endswith("bias")}
    assert sum(p.numel() for p in biases.values()) == supernet.space.parameters(supernet.space.largest())
    x = bench.images(supernet)

    def descend(forward: Any, parameters: list[nn.Parameter]) -> list[Tensor]:
        optimizer, outputs = torch.optim.SGD(parameters, lr=0.05, momentum=0.9), []
        for _ in range(5):
            optimizer.zero_grad()
            output = forward(x)
            output.sin().sum().backward()
            optimizer.step()
            outputs.append(output.detach())
        return outputs

    with supernet.activate(supernet.space.largest()):
        found = descend(supernet, list(supernet.adapter_parameters().values()))
    expected = descend(theirs, list(biases.values()))
    assert (expected[-1] - expected[0]).abs().max() > 1e-2
    for ours, wanted in zip(found, expected, strict=True):
        assert (ours - wanted).abs().max() <= TOLERANCE
    assert_equal_outputs(bench, supernet, theirs)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("form", ["linear", "linear without bias", "qkv", "conv", "depthwise"])
def test_ia3(bench: Any, form: str) -> None:
    """On outputs it is A = vector, and with a bias D = vector of the same values."""
    biased = "without" not in form and form != "depthwise"
    supernet = bench.build(form, {"A": ["vector"]} | ({"D": ["vector"]} if biased else {}), name="layer")
    theirs = theirs_of(supernet, peft.IA3Config(target_modules=["layer"], feedforward_modules=[]))
    (scale,) = trainable(theirs).values()
    assert scale.numel() == bench.layer(supernet).out_features
    assert torch.equal(scale, torch.ones_like(scale))
    with torch.no_grad():
        values = torch.randn(scale.numel())
        scale.copy_(1 + values.reshape(scale.shape))
        for parameter in supernet.adapter_parameters().values():
            parameter.copy_(values)
    assert_equal_outputs(bench, supernet, theirs)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("form", ["linear", "linear without bias", "qkv", "conv", "depthwise"])
def test_ia3_is_a_gain(bench: Any, form: str) -> None:
    """One vector for weight and bias, as in SSF without its shift; with PEFT's learning, step by step."""
    supernet = bench.build(form, {"A": ["gain"]}, name="layer")
    theirs = theirs_of(supernet, peft.IA3Config(target_modules=["layer"], feedforward_modules=[]))
    (scale,), (gain,) = trainable(theirs).values(), supernet.adapter_parameters().values()
    assert scale.numel() == gain.numel() == supernet.space.parameters(supernet.space.largest())
    x = bench.images(supernet)
    for parameter, forward in ((scale, theirs), (gain, supernet)):
        optimizer = torch.optim.SGD([parameter], lr=0.05, momentum=0.9)
        for _ in range(5):
            optimizer.zero_grad()
            with supernet.activate(supernet.space.largest()):
                forward(x).sin().sum().backward()
            optimizer.step()
    torch.testing.assert_close(1 + gain, scale.flatten(), rtol=1e-10, atol=1e-10)
    assert_equal_outputs(bench, supernet, theirs)
