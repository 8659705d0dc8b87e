"""The grammar of choices and their parameter counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glorasearch.choices import CHOICES, Choice, check_allowed, describe_choices, options_of
from glorasearch.errors import SearchSpaceError
from glorasearch.space import SUPPORT_TENSORS, LayerShape, SearchSpace, Site, parse_choice

LAYER = LayerShape("fc", in_features=10, out_features=7)

ALLOWED = {
    "A": {"none", "constant", "vector", "lora", "wegeft", "gain", "repadapter"},
    "B": {"none", "constant", "vector", "lora", "fourier", "dash", "tsd_init", "tsd", "lora_qkv", "fourier_qv"},
    "C": {"none", "vector", "lora"},
    "D": {"none", "constant", "vector"},
    "E": {"none", "constant", "vector"},
}
"""GLoRA's as in the paper, and those of other methods."""


def test_each_support_tensor_has_its_choices() -> None:
    assert tuple(ALLOWED) == SUPPORT_TENSORS
    for tensor, names in ALLOWED.items():
        for name, made in CHOICES.items():
            choice = made((3,) * len(made.arguments))
            if name in names:
                check_allowed(tensor, choice)
            else:
                with pytest.raises(SearchSpaceError, match=f"support tensor {tensor} has no choice"):
                    check_allowed(tensor, choice)


def test_a_layer_has_432_choices() -> None:
    glora = {"none", "constant", "vector", "lora:<rank>"}
    assert math.prod(len(glora & set(describe_choices(tensor))) for tensor in SUPPORT_TENSORS) == 432
    small = SearchSpace.load("glora_small")
    assert small.bind([LayerShape("blocks.0.fc", 10, 7)]).size() == 432
    assert small.bind([LayerShape("blocks.0.fc", 10, 7, bias=False)]).size() == 144


@pytest.mark.parametrize(
    ("tensor", "text", "parameters"),
    [
        ("A", "none", 0),
        ("A", "constant", 1),
        ("A", "vector", 7),
        ("A", "lora:3", 3 * (10 + 7)),
        ("B", "lora:1", 17),
        ("B", "vector", 7),
        ("C", "vector", 10),
        ("C", "lora:3", 3 * (10 + 1)),
        ("D", "constant", 1),
        ("D", "vector", 7),
        ("E", "vector", 7),
        ("A", "wegeft:3", 2 * 10 * 3),
        ("B", "fourier:25", 25),
        ("B", "dash:3:5", 3 * (10 + 7) + 5),
        ("B", "tsd_init:3", 3 * (10 + 7)),
        ("B", "tsd:3:5", 3 * (10 + 7) + 5),
    ],
)
def test_parameters_of_a_choice(tensor: str, text: str, parameters: int) -> None:
    choice = parse_choice(text)
    assert choice.parameters(Site(tensor, LAYER, options_of(choice.name, {}))) == parameters


@given(st.sampled_from([name for name, made in CHOICES.items() if not made.arguments]))
def test_choices_without_rank_round_trip(name: str) -> None:
    assert str(parse_choice(name)) == name


@given(st.sampled_from(list(CHOICES.values())), st.lists(st.integers(1, 999_999), min_size=2, max_size=2))
def test_choices_with_arguments_round_trip(made: type[Choice], numbers: list[int]) -> None:
    choice = made(tuple(numbers[: len(made.arguments)]))
    assert parse_choice(str(choice)) == choice
    assert list(choice.given.values()) == numbers[: len(made.arguments)]


@given(st.text(max_size=12))
def test_other_text_is_refused_or_canonical(text: str) -> None:
    try:
        choice = parse_choice(text)
    except SearchSpaceError:
        return
    assert str(choice) == text
