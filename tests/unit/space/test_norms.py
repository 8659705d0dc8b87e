"""What a space may offer on norms, what it costs, and how a choice that they do not have is refused."""

from __future__ import annotations

from typing import Any

import pytest

from glorasearch.choices import CHOICES, LayerShape, parse_choice
from glorasearch.errors import SearchSpaceError
from glorasearch.space import BoundSpace, SearchSpace

LAYERS = [
    LayerShape("norm1", 1, 8, kind="norm"),
    LayerShape("fc", 8, 8),
    LayerShape("norm2", 1, 8, bias=False, kind="norm"),
]
ARGUMENTS = {1: ":1", 2: ":1:1"}


def bound(choices: dict[str, list[str]], *, types: list[str] | None = None, **content: Any) -> BoundSpace:
    layers = {"include": ["*"], "types": types or ["linear", "norm"]}
    return SearchSpace.from_dict({"name": "mine", "layers": layers, "choices": choices} | content).bind(LAYERS)


def test_they_are_left_alone_unless_a_space_asks_for_them() -> None:
    space = SearchSpace.from_dict({"name": "mine", "layers": {"include": ["*"]}, "choices": {"B": ["lora:2"]}})
    assert [layer.name for layer in space.bind(LAYERS).layers] == ["fc"]


def test_scale_and_shift_cost_one_value_a_channel_and_d_needs_a_bias() -> None:
    space = bound({"A": ["vector"], "D": ["vector"], "E": ["constant"]}, types=["norm"])
    assert [gene.name for gene in space.genes] == ["norm1.A", "norm1.D", "norm1.E", "norm2.A", "norm2.E"]
    assert space.parameters(space.largest()) == 3 * 8 + 2


@pytest.mark.parametrize(
    ("tensor", "choice"),
    [
        (tensor, name + ARGUMENTS.get(len(made.arguments), ""))
        for name, made in CHOICES.items()
        for tensor in made.tensors
        if tensor not in made.norms
    ],
)
def test_every_other_choice_is_refused(tensor: str, choice: str) -> None:
    assert parse_choice(choice).name != "none"
    with pytest.raises(SearchSpaceError) as caught:
        bound({tensor: ["none", choice]})
    for part in (f"choices.{tensor}: '{choice}' is not for norms such as norm1", "E may be none, constant, vector"):
        assert part in str(caught.value)


def test_a_group_gives_norms_lists_of_their_own() -> None:
    space = bound(
        {"B": ["none", "lora:2"], "E": ["vector"]}, groups=[{"layers": ["norm*"], "A": ["vector"], "B": ["none"]}]
    )
    assert space.parameters(space.largest()) == 2 * (8 + 8) + 8 + 2 * (8 + 8)


def test_spaces_that_differ_in_the_kind_of_a_layer_share_no_weights() -> None:
    content = {"name": "mine", "layers": {"include": ["*"], "types": ["linear", "norm"]}, "choices": {"E": ["vector"]}}
    kinds = [LayerShape("layer", 1, 8, kind=kind) for kind in ("linear", "norm")]
    first, second = (SearchSpace.from_dict(content).bind([layer]).digest for layer in kinds)
    assert first != second
