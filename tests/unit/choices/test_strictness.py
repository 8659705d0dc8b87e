"""Wrong options and arguments of choices, and what is said; supernets that are copied and converted."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable

import pytest
import torch

from glorasearch.choices import (
    parse_choice,
)
from glorasearch.errors import SearchSpaceError
from glorasearch.space import LayerShape, SearchSpace
from glorasearch.supernet import Supernet

MakeSupernet = Callable[..., Supernet]

BLOCKS = [LayerShape("blocks.0.attn.qkv", 4, 12), LayerShape("blocks.0.attn.proj", 4, 5)]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("dash", {"warmup": 0}, "warmup is 0; it must be a whole number from 1 to 2^53"),
        ("tsd_init", {"warmup": 0.5}, "warmup is 0.5; it must be a whole number from 1"),
        ("tsd", {"warmup": -100}, "warmup is -100; it must be a whole number from 1"),
        ("tsd", {"warmup": 1e300}, r"warmup is 1e+300; it must be a whole number"),
        ("dash", {"scale": 0}, "scale is 0; it must be above 0"),
        ("tsd_init", {"scale": -1}, "scale is -1; it must be above 0"),
        ("wegeft", {"scale": 0}, "scale is 0; it must be above 0"),
        ("wegeft", {"scale": float("nan")}, "scale is nan; it must be a finite number"),
        ("fourier", {"scale": float("inf")}, "scale is inf; it must be a finite number"),
        ("fourier", {"seed": -1}, "seed is -1; it must be a whole number from 0 to 2^53"),
        ("fourier", {"seed": 7.5}, "seed is 7.5; it must be a whole number from 0"),
        ("fourier", {"seed": 2**60}, "it must be a whole number from 0 to 2^53"),
        ("fourier", {"width": 0, "centre": 3}, "width is 0; it must be above 0"),
        ("fourier", {"center": 3}, "unknown center; fourier has scale, seed, centre, width"),
        ("lora", {"scale": 2}, "unknown scale; lora has no options"),
        ("dosh", {"scale": 2}, "there is no such choice; known are none, constant"),
    ],
)
def test_options_that_make_no_sense(name: str, options: dict[str, float], said: str) -> None:
    with pytest.raises(SearchSpaceError, match=rf"key 'options': options\.{name}: .*{re.escape(said)}"):
        SearchSpace.from_dict({"name": "mine", "choices": {"B": ["none"]}, "options": {name: options}})


@pytest.mark.parametrize(
    ("tensor", "text", "said"),
    [
        ("B", "fourier:21", r"'fourier:21' has entries above 20, the most that layer blocks\.0\.attn\.proj \(5, 4\)"),
        ("B", "dash:2:5", "'dash:2:5' has directions above 4, the most .* use fewer directions"),
        ("B", "dash:5:2", "'dash:5:2' has a rank above 4, the largest .* use a smaller rank"),
        ("B", "tsd_init:5", "'tsd_init:5' has a rank above 4"),
        ("B", "tsd:5:1", "has a rank above 4"),
        ("B", "tsd:1:5", "has directions above 4"),
        ("A", "wegeft:5", "'wegeft:5' has a rank above 4"),
    ],
)
def test_arguments_that_a_layer_is_too_small_for(tensor: str, text: str, said: str) -> None:
    space = SearchSpace.from_dict({"name": "mine", "choices": {tensor: [text]}})
    with pytest.raises(SearchSpaceError, match=said):
        space.bind(BLOCKS[1:])


def test_the_largest_arguments_are_taken(make_supernet: MakeSupernet) -> None:
    """A fused qkv has three times as many directions; and all of them can be chosen."""
    space = SearchSpace.from_dict({"name": "mine", "choices": {"B": ["dash:4:12", "tsd:4:12", "fourier:48"]}})
    space.bind(BLOCKS[:1])
    supernet = make_supernet(
        {"B": ["dash:12:36", "tsd:12:36", "tsd_init:12", "fourier:432"]},
        layers={"include": ["*.qkv"]},
        options={name: {"warmup": 1} for name in ("dash", "tsd", "tsd_init")},
    )
    subnets = [supernet.space.subnet([text]) for text in supernet.space.genes[0].choices]
    for _ in range(2):
        supernet.warm_ups.step(subnets)
    for prefix in ("dash", "tsd"):
        left = supernet.adapted["blocks.0.attn.qkv"].support_of("B").get_parameter(f"{prefix}_left").detach()
        torch.testing.assert_close(left.T @ left, torch.eye(36), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fourier", "'fourier' needs its entries, a positive integer; write 'fourier:4'"),
        ("dash:4", "'dash' needs its rank and directions, positive integers; write 'dash:4:8'"),
        ("tsd:4:0", "'tsd' needs its rank and directions"),
        ("tsd_init:4:8", "'tsd_init' needs its rank, a positive integer"),
        ("wegeft:x", "'wegeft' needs its rank"),
    ],
)
def test_arguments_that_are_not_there(text: str, said: str) -> None:
    with pytest.raises(SearchSpaceError, match=re.escape(said)):
        parse_choice(text)


EVERYTHING = {
    "A": ["none", "wegeft:2"],
    "B": ["none", "lora:2", "fourier:9", "dash:2:2", "tsd_init:2", "tsd:2:2"],
    "E": ["vector"],
}


def test_evaluated_in_inference_mode_before_it_is_trained(make_supernet: MakeSupernet) -> None:
    supernet = make_supernet({"B": ["fourier:11"]}, options={"fourier": {"seed": 12345}})
    images = torch.randn(2, 1, 14, 14)
    with torch.inference_mode(), supernet.activate(supernet.space.largest()):
        supernet(images)
    with supernet.activate(supernet.space.largest()):
        supernet(images).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in supernet.adapter_parameters().values())


def test_copied_pickled_and_converted(make_supernet: MakeSupernet) -> None:
    """Every copy has parts, directions and counts of its own, and goes on where the original was."""
    options = {name: {"warmup": 2} for name in ("dash", "tsd_init", "tsd")}
    groups = [{"layers": ["*.proj", "*.qkv"], "A": ["none", "wegeft:2"], "share": "all"}]
    supernet = make_supernet(EVERYTHING, options=options, groups=groups)
    subnets = [
        supernet.space.subnet([text if gene.tensor == "B" else gene.choices[-1] for gene in supernet.space.genes])
        for text in EVERYTHING["B"]
    ]
    with torch.no_grad():
        for parameter in supernet.adapter_parameters().values():
            parameter.normal_(std=0.1)
    supernet.warm_ups.step(subnets)
    copies = [copy.deepcopy(supernet), pickle.loads(pickle.dumps(supernet)), copy.deepcopy(supernet).double().float()]
    supernet.warm_ups.step(subnets)
    expected = {name: value.clone() for name, value in supernet.adapter_state().items()}
    with torch.no_grad():
        for value in supernet.adapter_parameters().values():
            value.zero_()
    for twin in copies:
        assert twin.warm_ups.step(subnets)
        found = twin.adapter_state()
        assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
        images = torch.randn(2, 1, 14, 14)
        for subnet in subnets:
            with torch.no_grad(), twin.activate(subnet):
                assert (twin(images) - twin.merged(subnet)(images)).abs().max() <= 1e-4
