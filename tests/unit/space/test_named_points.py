"""Named points: what people know as subnets, derived from what a space's genes offer."""

from __future__ import annotations

import pytest
from hypothesis import given

from glorasearch.space import BoundSpace, LayerShape, SearchSpace, Subnet, known_layers, named_points
from glorasearch.space.patterns import patterns
from tests.unit.space.test_operators import spaces

EVERYTHING = {
    "A": ["none", "vector", "lora:2", "wegeft:4"],
    "B": ["none", "vector", "lora:2", "lora:4", "fourier:8", "dash:2:2"],
    "C": ["none", "vector"],
    "D": ["none", "vector"],
    "E": ["none", "constant", "vector"],
}


def block(number: int) -> list[LayerShape]:
    """A block of a vision transformer of width 8."""
    shapes = {"attn.qkv": (8, 24), "attn.proj": (8, 8), "mlp.fc1": (8, 16), "mlp.fc2": (16, 8)}
    return [LayerShape(f"blocks.{number}.{name}", *shape) for name, shape in shapes.items()]


LAYERS = [*block(0), *block(1)]


def bind(choices: dict[str, list[str]] | None = None, **keys: object) -> BoundSpace:
    return SearchSpace.from_dict({"name": "test", "choices": choices or EVERYTHING, **keys}).bind(LAYERS)


def used(subnet: Subnet) -> dict[str, set[str]]:
    """Layer within its block → its choices that are not `none`, as `B=lora:4`."""
    found: dict[str, set[str]] = {}
    for (layer, tensor), choice in subnet.items():
        if choice != "none":
            found.setdefault(layer.split(".", 2)[2], set()).add(f"{tensor}={choice}")
    return found


def everywhere(*choices: str) -> dict[str, set[str]]:
    return {layer.name.split(".", 2)[2]: set(choices) for layer in block(0)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lora:4 everywhere", everywhere("B=lora:4")),
        ("lora:2 everywhere", everywhere("B=lora:2")),
        ("lora:4+bias everywhere", everywhere("B=lora:4", "E=vector")),
        ("A=lora:2 everywhere", everywhere("A=lora:2")),
        ("wegeft:4 everywhere", everywhere("A=wegeft:4")),
        ("wegeft:4+bias everywhere", everywhere("A=wegeft:4", "E=vector")),
        ("repadapter:4 everywhere", {name: {"A=wegeft:4", "C=vector"} for name in ("attn.qkv", "mlp.fc1")}),
        ("fourier:8 everywhere", everywhere("B=fourier:8")),
        ("dash:2:2 everywhere", everywhere("B=dash:2:2")),
        ("ssf everywhere", everywhere("A=vector", "D=vector", "E=vector")),
        ("bitfit everywhere", everywhere("E=vector")),
        ("all:4 everywhere", everywhere("A=lora:2", "B=lora:4", "D=vector", "E=vector")),
        ("smallest", {}),
        ("lora:4 attention", {"attn.qkv": {"B=lora:4"}, "attn.proj": {"B=lora:4"}}),
        ("ssf mlp", {f"mlp.{name}": {"A=vector", "D=vector", "E=vector"} for name in ("fc1", "fc2")}),
        ("lora:4 qkv", {"attn.qkv": {"B=lora:4"}}),
        ("wegeft:4 proj", {"attn.proj": {"A=wegeft:4"}}),
    ],
)
def test_a_point_is_its_method(name: str, expected: dict[str, set[str]]) -> None:
    assert used(named_points(bind())[name]) == expected


def test_norms_are_a_pattern_and_have_what_they_can() -> None:
    layers = [LayerShape("blocks.0.norm1", 1, 8, kind="norm"), *LAYERS]
    types = {"types": ["linear", "norm"], "include": ["blocks.*"]}
    choices = {"A": ["none", "vector", "lora:2"], "B": ["none", "lora:2"], "E": ["none", "vector"]}
    groups = [{"layers": ["*norm*"], "A": ["none", "vector"], "B": ["none"]}]
    space = SearchSpace.from_dict({"name": "test", "layers": types, "choices": choices, "groups": groups}).bind(layers)
    points = named_points(space)
    assert used(points["ssf norms"]) == {"norm1": {"A=vector", "E=vector"}}
    assert used(points["all:2 everywhere"])["norm1"] == {"A=vector", "E=vector"}
    assert "norm1" not in used(points["lora:2 everywhere"])
    assert "lora:2 norms" not in points


def test_halves_go_by_blocks() -> None:
    points = named_points(bind())
    chosen = [
        {layer for (layer, _), choice in points[f"lora:4 {half} half"].items() if choice != "none"}
        for half in ("first", "last")
    ]
    assert chosen == [{layer.name for layer in block(number)} for number in (0, 1)]


def test_largest_and_smallest_are_those_of_the_space() -> None:
    space = bind()
    points = named_points(space)
    assert points["largest"] == space.largest()
    assert points["smallest"] == space.smallest()


def test_a_gene_without_the_choice_takes_its_cheapest() -> None:
    space = bind({"A": ["vector", "lora:2"], "B": ["none", "lora:4"]})
    assert used(named_points(space)["lora:4 everywhere"]) == everywhere("A=vector", "B=lora:4")


def test_a_method_that_the_space_cannot_express_is_not_there() -> None:
    methods = {name.split(" ")[0] for name in named_points(bind({"B": ["none", "lora:4"]}))}
    assert methods == {"lora:4", "smallest"}


def test_the_budget_leaves_points_out_and_a_smaller_rank_stands_for_them() -> None:
    free = bind({"B": ["none", "lora:1", "lora:2", "lora:4"]})
    sizes = {name: free.parameters(subnet) for name, subnet in named_points(free).items()}
    most = sizes["lora:2 everywhere"]
    limited = bind({"B": ["none", "lora:1", "lora:2", "lora:4"]}, budget={"min": 1, "max": most})
    points = named_points(limited)
    assert list(points)[:2] == ["lora:2 everywhere", "lora:1 everywhere"]
    assert {"lora:4 everywhere", "smallest"}.isdisjoint(points)
    assert "lora:4 attention" in points
    assert all(limited.parameters(subnet) <= most for subnet in points.values())


def test_above_the_budget_the_largest_has_smaller_ranks() -> None:
    choices = {"B": ["none", "lora:1", "lora:4"], "E": ["none", "vector"], "D": ["none", "vector"]}
    free = bind(choices)
    limited = bind(choices, budget={"max": free.parameters(free.largest()) - 1})
    assert used(named_points(limited)["largest"]) == everywhere("B=lora:1", "D=vector", "E=vector")

    both = {"A": ["none", "vector", "lora:4"], "B": ["none", "vector", "lora:4"], "C": ["none", "vector"]}
    limited = bind(both, budget={"max": bind(both).parameters(bind(both).largest()) - 1})
    assert used(named_points(limited)["largest"]) in (
        everywhere("A=vector", "B=lora:4", "C=vector"),
        everywhere("A=lora:4", "B=vector", "C=vector"),
    ), "not without ranks in both"


def test_a_fixed_method_is_one_point_under_its_name() -> None:
    layers = known_layers("vit_tiny_patch16_224") or []
    for name, point in {
        "lora": "lora:4 everywhere",
        "lora_dash": "dash:4:8 everywhere",
        "repadapter": "repadapter:8 everywhere",
        "ssf": "ssf everywhere",
        "bitfit": "bitfit everywhere",
        "wegeft": "wegeft:16 everywhere",
        "linear_probe": "smallest",
    }.items():
        assert list(named_points(SearchSpace.load(name).bind(layers))) == [point]


@given(spaces())
def test_points_are_distinct_and_within_the_budget(space: BoundSpace) -> None:
    points = named_points(space)
    assert len(set(points.values())) == len(points)
    for subnet in points.values():
        assert space.complete(subnet)
        space.check(subnet)
        assert space.within_budget(space.parameters(subnet))
    assert list(points.items()) == list(named_points(space).items())


def test_patterns_of_other_backbones() -> None:
    def named(*names: str) -> dict[str, list[str]]:
        return {where: sorted(own) for where, own in patterns([LayerShape(name, 8, 8) for name in names]).items()}

    assert named("stages.0.blocks.0.conv_dw", "stages.0.blocks.0.mlp.fc1", "stages.1.blocks.0.conv_dw") == {
        "mlp": ["stages.0.blocks.0.mlp.fc1"],
        "first half": ["stages.0.blocks.0.conv_dw", "stages.0.blocks.0.mlp.fc1"],
        "last half": ["stages.1.blocks.0.conv_dw"],
    }
    assert named("layer1.0.conv1", "layer1.0.downsample.0", "layer1.1.conv1")["last half"] == ["layer1.1.conv1"]
    assert named("layers.0.self_attn.q_proj", "layers.0.self_attn.out_proj", "layers.0.ffn.lin1") == {
        "attention": ["layers.0.self_attn.out_proj", "layers.0.self_attn.q_proj"],
        "mlp": ["layers.0.ffn.lin1"],
        "qkv": ["layers.0.self_attn.q_proj"],
        "proj": ["layers.0.self_attn.out_proj"],
    }
