"""Every choice on every form of layer, merged and active, against their equations, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glorasearch.choices import CHOICES, Dense, LayerShape, LowRank, Site, options_of
from glorasearch.choices.fourier import Fourier, entries
from glorasearch.space import parse_choice, sample
from glorasearch.supernet import Supernet

FORMS = (
    *("linear", "linear without bias", "qkv", "conv", "conv with groups", "depthwise", "circular", "same"),
)  # fmt: skip
TOLERANCE = 1e-10
STAGES = {"in the warm-up": 0, "directions chosen": 1, "all directions chosen": 2}


def made(bench: Any, form: str, stage: str, **content: Any) -> Supernet:
    """A supernet whose trained parts are random, before or after directions were chosen."""
    supernet: Supernet = bench.build(form, **content)
    for step in range(STAGES[stage]):
        bench.randomise(supernet, seed=10 + step)
        bench.settle(supernet)
    bench.randomise(supernet)
    return supernet


def check(bench: Any, supernet: Supernet, subnet: Any, options: Any = None) -> None:
    layer = bench.layer(supernet)
    (name,) = supernet.adapted
    choices = dict(zip("ABCDE", subnet.layer(name), strict=True))
    x = bench.images(supernet)
    W, b = bench.expected(layer, choices, options or bench.options)
    expected = bench.run(layer, W, b, x)
    merged = supernet.merged(subnet)
    weight, bias = supernet.merged_layer(name, subnet)
    assert (weight - W).abs().max() <= TOLERANCE, choices
    assert (b if bias is None else bias - b).abs().max() <= TOLERANCE, choices
    assert (merged(x) - expected).abs().max() <= TOLERANCE, choices
    assert (bench.active(supernet, subnet, x) - expected).abs().max() <= TOLERANCE, choices


def test_every_kind_of_choice_is_tested_where_it_is_allowed(bench: Any) -> None:
    assert set(FORMS) == set(bench.forms)
    for tensor, texts in bench.kinds.items():
        tested = {parse_choice(text).name for text in texts}
        # `fourier_qv` fits fused layers only: test_methods has it.
        assert tested == {kind for kind, choice in CHOICES.items() if tensor in choice.tensors} - {"fourier_qv"}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("form", FORMS)
def test_every_choice_alone(bench: Any, form: str, stage: str) -> None:
    supernet = made(bench, form, stage)
    for _, _, subnet in bench.singles(supernet):
        check(bench, supernet, subnet)


@pytest.mark.parametrize("entangle", ["untied", "reference"])
@pytest.mark.parametrize("form", FORMS)
def test_choices_together(bench: Any, form: str, entangle: str) -> None:
    supernet = made(bench, form, "all directions chosen", entangle=entangle)
    rng = np.random.default_rng(0)
    for _ in range(25):
        check(bench, supernet, sample(supernet.space, rng))


@pytest.mark.parametrize("form", ["linear", "qkv", "conv with groups"])
@pytest.mark.parametrize("centre", [0.0, 1.5])
def test_fourier_with_a_frequency_bias(bench: Any, form: str, centre: float) -> None:
    options = {"fourier": {"scale": 20.0, "seed": 3, "centre": centre, "width": 2.0}}
    supernet = bench.build(form, {"B": ["none", "fourier:4", "fourier:30"]}, options=options)
    bench.randomise(supernet)
    for _, _, subnet in bench.singles(supernet):
        check(bench, supernet, subnet, options)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_shape_and_arguments(bench: Any, data: st.DataObject) -> None:
    ins, outs = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 13))
    form, bias = data.draw(st.sampled_from(["linear", "qkv", "conv"])), data.draw(st.booleans())
    fused = form == "qkv"
    outs *= 3 if fused else 1
    layer: nn.Module = nn.Linear(ins, outs, bias)
    if form == "conv":
        groups = data.draw(st.sampled_from([n for n in range(1, 14) if ins % n == 0 and outs % n == 0]))
        kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        layer = nn.Conv2d(ins, outs, kernel, groups=groups, bias=bias)
        ins = ins // groups * kernel[0] * kernel[1]
    kind = data.draw(st.sampled_from(["wegeft", "repadapter", "lora_qkv", "fourier", "dash", "tsd_init", "tsd"]))
    most = min(ins, outs)
    limits = {
        "wegeft": (ins,),
        "repadapter": (ins,),
        "lora_qkv": (min(ins, outs // 3) if fused else most,),
        "fourier": (ins * outs,),
        "dash": (most, 3 * min(ins, outs // 3) if fused else most),
        "tsd_init": (most,),
        "tsd": (most, most),
    }[kind]
    text = ":".join([kind, *(str(data.draw(st.integers(1, limit))) for limit in limits)])
    tensor = "A" if kind in ("wegeft", "repadapter") else "B"
    supernet = bench.build(layer, {tensor: [text]}, name="qkv" if fused else "layer")
    for step in range(data.draw(st.integers(0, 2))):
        bench.randomise(supernet, seed=step + 5)
        bench.settle(supernet)
    bench.randomise(supernet)
    check(bench, supernet, bench.subnet(supernet, {tensor: text}))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("form", ["linear", "qkv", "circular"])
def test_a_smaller_argument_is_a_prefix_of_a_larger_one(bench: Any, form: str, stage: str) -> None:
    """What lies behind the prefix set to zero, the larger choice is the smaller one."""
    for tensor, texts in bench.kinds.items():
        for kind in {text.partition(":")[0] for text in texts if ":" in text}:
            small, large = (text for text in texts if text.startswith(f"{kind}:"))
            supernet = made(bench, form, stage)
            (name,) = supernet.adapted
            subnets = [bench.subnet(supernet, {tensor: text}) for text in (small, large)]
            before, _ = supernet.merged_layer(name, subnets[0])
            whole, _ = supernet.merged_layer(name, subnets[1])
            bias_before, bias_whole = (supernet.merged_layer(name, subnet)[1] for subnet in subnets)
            cut = bench.layer(supernet).support_of(tensor).parts(small)
            for part, value in bench.layer(supernet).support_of(tensor).parts(large).items():
                kept = cut[part].detach().clone()
                with torch.no_grad():
                    value.zero_()
                    value[tuple(slice(size) for size in kept.shape)] = kept
            after, bias_after = supernet.merged_layer(name, subnets[1])
            torch.testing.assert_close(after, before, rtol=0, atol=1e-13)
            if tensor == "C":
                torch.testing.assert_close(bias_after, bias_before, rtol=0, atol=1e-13)
                assert (bias_whole - bias_before).abs().max() > 1e-3
            else:
                assert (whole - before).abs().max() > 1e-3, (kind, "the larger one adds something")


@pytest.mark.parametrize("centre", [-1.0, 0.0, 2.0])
def test_the_entries_of_a_smaller_spectrum_come_first(centre: float) -> None:
    whole = entries(5, 8, 40, 3, centre, 1.0)
    assert len(set(map(tuple, whole.T.tolist()))) == 40
    for count in (1, 7, 40):
        assert torch.equal(entries(5, 8, count, 3, centre, 1.0), whole[:, :count])


@pytest.mark.parametrize("form", FORMS)
def test_the_rank_of_a_shift(bench: Any, form: str) -> None:
    """A low-rank choice changes the weight by the product that it contributes; other changes have a high rank."""
    for stage in STAGES:
        supernet = made(bench, form, stage)
        layer = bench.layer(supernet)
        (name,) = supernet.adapted
        W0 = layer.weight_view
        for tensor, text, subnet in bench.singles(supernet):
            choice = parse_choice(text)
            change = supernet.merged_layer(name, subnet)[0].detach() - W0
            if tensor in "CDE" or text == "none":
                assert torch.equal(change, torch.zeros_like(change))
                continue
            if choice.name == "fourier" or (tensor == "A" and choice.name not in ("wegeft", "repadapter")):
                assert text == "fourier:4" or torch.linalg.matrix_rank(change) > 3
                continue
            rank = RANKS.get(choice.name, lambda *_: 1)(*choice.values)
            rank *= 3 if choice.name == "lora_qkv" and form == "qkv" else 1
            assert torch.linalg.matrix_rank(change, atol=1e-9) <= rank
            shift = layer.support_of(tensor).contribution(text, W0).shift
            assert not isinstance(shift, Dense)
            if isinstance(shift, LowRank):
                assert (shift.down.shape[1], shift.up.shape[0]) == (rank, rank)
                torch.testing.assert_close(shift.down @ shift.up, change, rtol=0, atol=1e-12)
            else:
                assert rank == 1
                torch.testing.assert_close(shift[:, None].expand_as(change), change, rtol=0, atol=1e-12)


RANKS: dict[str, Callable[..., int]] = {
    "lora": lambda r: r,
    "wegeft": lambda r: r,
    "repadapter": lambda r: r,
    "lora_qkv": lambda r: r,
    "dash": lambda r, k: r + k,
    "tsd_init": lambda r: 2 * r,
    "tsd": lambda r, k: 2 * r + k,
}
"""The rank of the product that a choice adds to the weight."""


@pytest.mark.parametrize("stage", ["directions chosen", "all directions chosen"])
@pytest.mark.parametrize("form", FORMS)
def test_parameters_are_the_elements_with_a_gradient(bench: Any, form: str, stage: str) -> None:
    supernet = made(bench, form, stage)
    x = bench.images(supernet)
    for tensor, text, subnet in bench.singles(supernet):
        if stage == "directions chosen" and text.startswith("tsd:"):
            continue  # its k directions are chosen in the second phase
        supernet.zero_grad()
        with supernet.activate(subnet):
            output = supernet(x)
        if output.requires_grad:
            output.sin().sum().backward()
        touched = [p.grad for p in supernet.adapter_parameters().values() if p.grad is not None]
        count = sum(int((gradient != 0).sum()) for gradient in touched)
        gene = next(gene for gene in supernet.space.genes if gene.tensor == tensor)
        choice = parse_choice(text)
        assert count == choice.parameters(supernet.space.site(gene, choice.name)), (tensor, text)
        assert count == supernet.space.parameters(subnet)


def test_layers_of_one_shape_at_once(bench: Any) -> None:
    """Parts and W0 may have one more dimension in front: the same choice of several layers."""
    supernets = [made(bench, "linear", "all directions chosen") for _ in range(3)]
    for index, supernet in enumerate(supernets):
        bench.randomise(supernet, seed=20 + index)
        with torch.no_grad():
            bench.layer(supernet).base.weight.normal_()
    layers = [bench.layer(supernet) for supernet in supernets]
    bases = torch.stack([layer.weight_view for layer in layers])
    space = supernets[0].space
    for gene, text in ((one, text) for one in space.genes for text in one.choices if text != "none"):
        made_of = type(parse_choice(text))
        site = space.site(gene, made_of.name)
        each = [layer.support_of(gene.tensor).parts(text) for layer in layers]
        together = made_of.contribution({name: torch.stack([p[name] for p in each]) for name in each[0]}, bases, site)
        for index, layer in enumerate(layers):
            alone = made_of.contribution(each[index], layer.weight_view, site)
            for slot in ("scale", "shift", "prompt", "bias_scale", "bias_shift"):
                one, all_of_them = getattr(alone, slot), getattr(together, slot)
                if one is None:
                    assert all_of_them is None
                    continue
                if isinstance(one, (LowRank, Dense)):
                    one, all_of_them = one.dense(), all_of_them.dense()
                torch.testing.assert_close(all_of_them[index], one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 6), (5, 1), (4, 6), (7, 5), (6, 9)])
@pytest.mark.parametrize("centre", [-1.0, 1.0])
def test_a_spectrum_as_fixed_matrices(sizes: tuple[int, int], centre: float) -> None:
    """`left·diag(c)·right`, which fast paths use, is the shift."""
    outs, ins = sizes
    site = Site("B", LayerShape("layer", ins, outs), options_of("fourier", {"centre": centre, "width": 2.0}))
    for count in {1, (outs * ins + 1) // 2, outs * ins}:
        coefficients = {"coefficients": torch.randn(count, dtype=torch.float64)}
        shift = Fourier.contribution(coefficients, torch.zeros(outs, ins, dtype=torch.float64), site).shift
        left, right = Fourier.bases(Fourier.parts(site, entries=count), site)
        found = left.double() @ Fourier.spectrum(coefficients, site).diag() @ right.double()
        assert (found - shift.dense()).abs().max() <= TOLERANCE


def test_frequencies_are_drawn_by_their_density() -> None:
    """p ∝ exp(−((D² − fc²) / (D·width))²): how often each entry comes first, over many seeds."""
    outs, ins, centre, width, seeds = 4, 5, 1.5, 1.2, 4000
    density = np.zeros((outs, ins))
    for j, k in itertools.product(range(outs), range(ins)):
        distance = np.hypot(min(j, outs - j), min(k, ins - k))
        if distance > 0:
            density[j, k] = np.exp(-(((distance**2 - centre**2) / (distance * width)) ** 2))
    density /= density.sum()
    counts = np.zeros((outs, ins))
    for seed in range(seeds):
        j, k = entries.__wrapped__(outs, ins, 1, seed, centre, width)[:, 0].tolist()
        counts[j, k] += 1
    assert counts[0, 0] == 0
    error = np.abs(counts / seeds - density)
    assert (error <= 4.5 * np.sqrt(density * (1 - density) / seeds) + 1e-9).all()
