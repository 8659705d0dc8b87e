"""Supernets of convolutional timm models: as those of transformers, and their batch norms stay as they came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.conv_models import MODELS, build
from support.data import few_digits
from torch import Tensor, nn

from glorasearch.adapters import AdaptedConv2d, AdaptedLinear
from glorasearch.data import SearchData
from glorasearch.evaluation import CandidateEvaluator
from glorasearch.evaluation.eager_model import EagerModel
from glorasearch.space import SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, SupernetTrainer, Uniform

RESIDUAL = [name for name in MODELS if name.startswith("res")]
EVERYTHING = {
    "A": ["none", "constant", "vector", "lora:1", "lora:2", "wegeft:2"],
    "B": ["none", "constant", "vector", "lora:1", "lora:2", "fourier:9", "dash:1:2", "tsd_init:1", "tsd:1:2"],
    "C": ["none", "vector", "lora:1", "lora:2"],
    "D": ["none", "constant", "vector"],
    "E": ["none", "constant", "vector"],
}


def space(**content: Any) -> SearchSpace:
    layers = {"include": ["*"], "types": ["linear", "conv2d"]}
    return SearchSpace.from_dict({"name": "everything", "layers": layers, "choices": EVERYTHING} | content)


def images(count: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 1, 32, 32, generator=torch.Generator().manual_seed(1)).to(dtype)


def subnets(supernet: Supernet, count: int) -> list[Subnet]:
    rng = np.random.default_rng(1)
    extremes = [supernet.space.smallest(), supernet.space.largest()]
    return extremes + [sample(supernet.space, rng) for _ in range(count - len(extremes))]


def randomise(supernet: Supernet, scale: float = 0.1) -> Supernet:
    """Everything that choices keep, also what is not trained, and the head."""
    generator = torch.Generator().manual_seed(2)
    for value in supernet.adapter_state().values():
        if value.is_floating_point():
            value.normal_(std=scale, generator=generator)
    return supernet


@torch.no_grad()
def active(supernet: Supernet, subnet: Subnet, batch: Tensor) -> Tensor:
    with supernet.activate(subnet):
        logits: Tensor = supernet(batch)
    return logits


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_at_the_start_every_subnet_is_the_backbone_bit_for_bit(name: str) -> None:
    backbone = build(name)
    supernet = Supernet(backbone, space())
    kinds = [type(layer) for layer in supernet.adapted.values()]
    assert (kinds.count(AdaptedConv2d), kinds.count(AdaptedLinear)) == MODELS[name][2]
    expected = backbone(images())
    assert torch.equal(supernet(images()), expected)
    for subnet in subnets(supernet, 12):
        assert torch.equal(active(supernet, subnet, images()), expected)
        assert torch.equal(supernet.merged(subnet)(images()), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_merged_model_is_the_active_subnet(name: str, dtype: torch.dtype, tolerance: float) -> None:
    supernet = randomise(Supernet(build(name).to(dtype), space()))
    batch = images(dtype=dtype)
    outside = supernet(batch)
    for subnet in subnets(supernet, 12):
        expected = active(supernet, subnet, batch)
        assert (supernet.merged(subnet)(batch) - expected).abs().max() <= tolerance * expected.abs().max()
        if supernet.space.parameters(subnet):
            assert not torch.allclose(expected, outside, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_in_bfloat16_too(name: str) -> None:
    """Autocast rounds the operands of every convolution; what is added has other operands than what is merged."""
    supernet = randomise(Supernet(build(name), space()), 0.02)
    with torch.autocast("cpu", torch.bfloat16):
        for subnet in subnets(supernet, 6):
            expected = supernet.merged(subnet)(images())
            found = active(supernet, subnet, images())
            assert found.dtype == expected.dtype == torch.bfloat16
            assert (found - expected).abs().max() <= 0.05 * expected.abs().max()


@pytest.mark.parametrize("name", MODELS)
def test_a_merged_convolution_has_the_form_of_its_own(name: str) -> None:
    """Stride, padding, dilation and groups are those of the backbone; so are all names, but for gained biases."""
    backbone = build(name)
    supernet = randomise(Supernet(backbone, space()))
    merged = supernet.merged(supernet.space.largest())
    assert [(key, type(module)) for key, module in merged.named_modules()] == [
        (key, type(module)) for key, module in backbone.named_modules()
    ]
    for key in supernet.adapted:
        mine, theirs = merged.get_submodule(key), backbone.get_submodule(key)
        assert mine.extra_repr().replace(", bias=False", "") == theirs.extra_repr().replace(", bias=False", "")
    gained = merged.state_dict().keys() - backbone.state_dict().keys()
    assert gained == {f"{layer}.bias" for layer in supernet.gains_bias()}
    assert bool(gained) == (name in RESIDUAL)


def test_the_prompt_is_seen_by_every_filter_through_its_own_taps() -> None:
    """`W0·C` with the weight written out: one offset a filter, the same at every place, borders too."""
    supernet = randomise(Supernet(build("resnext, grouped"), space()))
    name, layer = next((key, layer) for key, layer in supernet.adapted.items() if layer.base.groups > 1)  # type: ignore[union-attr]
    subnet = Subnet({gene.key: "none" for gene in supernet.space.genes}).replace({(name, "C"): "vector"})
    assert isinstance(layer.base, nn.Conv2d)
    prompt = layer.support_of("C").parts("vector")["vector"].detach()
    weight = layer.base.weight.detach()
    assert prompt.shape == (weight[0].numel(),)
    expected = torch.stack([(filter.flatten() * prompt).sum() for filter in weight])
    batch = torch.randn(2, layer.base.in_channels, 5, 5)
    with torch.no_grad(), supernet.activate(subnet):
        offset = layer(batch) - layer.base(batch)
    assert torch.allclose(offset, expected[None, :, None, None].expand_as(offset), atol=1e-6)


@pytest.fixture(scope="module")
def digits() -> SearchData:
    return few_digits(32)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_candidate_is_scored_as_the_merged_model(name: str, digits: SearchData) -> None:
    supernet = randomise(Supernet(build(name), space()))
    evaluator = CandidateEvaluator(supernet, digits.search, batch_size=40)
    batch, labels = digits.search.batch(slice(None))
    for subnet in subnets(supernet, 6):
        logits = supernet.merged(subnet)(batch)
        result = evaluator.evaluate(subnet)
        assert result.total == 40
        assert result.correct == int((logits.argmax(-1) == labels).sum())
        assert result.cross_entropy == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_eager_model_holds_the_bits_of_the_merged_model(name: str) -> None:
    """Also after other candidates: a bias that only they gained is zero again."""
    supernet = randomise(Supernet(build(name), space()))
    model = EagerModel(supernet, "cpu")
    for subnet in subnets(supernet, 12):
        with torch.inference_mode():
            model.write(subnet)
        found = model._model.state_dict()
        assert all(torch.equal(found.pop(key), value) for key, value in supernet.merged(subnet).state_dict().items())
        assert all(
            key.removesuffix(".bias") in supernet.gains_bias() and not value.any() for key, value in found.items()
        )


@pytest.mark.parametrize("name", RESIDUAL)
def test_training_leaves_batch_norms_as_they_are(name: str, digits: SearchData) -> None:
    supernet = Supernet(build(name), space(), seed=3)
    frozen = {key: value.clone() for key, value in supernet.frozen_state().items()}
    assert {"running_mean", "running_var", "num_batches_tracked"} <= {key.rpartition(".")[2] for key in frozen}
    modes: list[bool] = []

    def look(step: int) -> None:
        modes.extend(norm.training for norm in norms(supernet))
        assert supernet.training

    config = SupernetTrainer.Config(steps=8, batch_size=16, warmup_steps=0, probe_every=4)
    trainer = SupernetTrainer(
        supernet,
        digits.train,
        Uniform(supernet.space, 0),
        config,
        probe=lambda net: {"mean": float(active(net.eval(), net.space.smallest(), images()).mean())},
        on_step=look,
    )
    trainer.run()
    assert modes == [False] * 8 * len(norms(supernet))
    after = supernet.frozen_state()
    assert after.keys() == frozen.keys()
    assert all(torch.equal(value, frozen[key]) for key, value in after.items())
    assert not any(parameter.requires_grad for norm in norms(supernet) for parameter in norm.parameters())
    merged = supernet.merged(supernet.space.largest())
    for key, value in merged.state_dict().items():
        if key in frozen and key.removesuffix(".weight").removesuffix(".bias") not in supernet.adapted:
            assert torch.equal(value, frozen[key])


METHODS = {
    "GLoRA": {"A": "lora:2", "B": "vector", "C": "lora:2", "D": "vector", "E": "vector"},
    "WeGeFT and Dash": {"A": "wegeft:2", "B": "dash:1:2", "E": "vector"},
    "FourierFT": {"B": "fourier:9", "E": "vector"},
    "TSD": {"B": "tsd:1:2", "E": "vector"},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["convnext, 1x1 convolutions", "resnext, grouped"])
def test_training_lowers_the_loss(name: str, method: str, digits: SearchData) -> None:
    """By the adapters alone: the head stays as it was drawn."""
    supernet = Supernet(build(name), space(options={choice: {"warmup": 5} for choice in ("dash", "tsd")}))
    batch, labels = digits.train.batch(slice(None))
    subnet = supernet.space.smallest().replace(
        {gene.key: METHODS[method][gene.tensor] for gene in supernet.space.genes if gene.tensor in METHODS[method]}
    )
    before = float(F.cross_entropy(active(supernet, subnet, batch), labels))
    rates = {"lr": 3e-2, "vector_lr": 3e-2, "spectrum_lr": 0.1, "head_lr": 0.0}
    config = SupernetTrainer.Config(steps=30, batch_size=60, warmup_steps=2, **rates)  # type: ignore[arg-type]
    SupernetTrainer(supernet, digits.train, Fixed(subnet), config).run()
    assert float(F.cross_entropy(active(supernet, subnet, batch), labels)) < before - 0.08
    state = supernet.adapter_state()
    chosen = [key for key in state if key.endswith(("dash_left", "tsd_left")) and state[key].any()]
    assert len(chosen) == (len(supernet.adapted) if method in ("WeGeFT and Dash", "TSD") else 0)
