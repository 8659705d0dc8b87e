"""The grammar of choices and their parameter counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glorasearch.errors import SearchSpaceError
from glorasearch.space import SUPPORT_TENSORS, Choice, LayerShape, SearchSpace, parse_choice
from glorasearch.space.choices import FORMS, check_allowed, choice_parameters, describe_forms

LAYER = LayerShape("fc", in_features=10, out_features=7)

ALLOWED = {
    "A": {"none", "constant", "vector", "lora"},
    "B": {"none", "constant", "vector", "lora"},
    "C": {"none", "vector", "lora"},
    "D": {"none", "constant", "vector"},
    "E": {"none", "constant", "vector"},
}
"""METHODS of GLoRA, table 1, written down once more."""


def test_each_support_tensor_has_the_choices_of_the_paper() -> None:
    assert tuple(ALLOWED) == SUPPORT_TENSORS
    for tensor, kinds in ALLOWED.items():
        for kind, form in FORMS.items():
            choice = Choice(kind, 3 if form.takes_rank else 0)
            if kind in kinds:
                check_allowed(tensor, choice)
            else:
                with pytest.raises(SearchSpaceError, match=f"support tensor {tensor} has no choice"):
                    check_allowed(tensor, choice)


def test_a_layer_has_432_choices() -> None:
    assert math.prod(len(describe_forms(tensor)) for tensor in SUPPORT_TENSORS) == 432
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
    ],
)
def test_parameters_of_a_choice(tensor: str, text: str, parameters: int) -> None:
    assert choice_parameters(tensor, parse_choice(text), LAYER) == parameters


@given(st.sampled_from([kind for kind, form in FORMS.items() if not form.takes_rank]))
def test_choices_without_rank_round_trip(kind: str) -> None:
    assert str(parse_choice(kind)) == kind


@given(st.integers(1, 999_999))
def test_choices_with_rank_round_trip(rank: int) -> None:
    assert parse_choice(f"lora:{rank}") == Choice("lora", rank)
    assert str(parse_choice(f"lora:{rank}")) == f"lora:{rank}"


@given(st.text(max_size=12))
def test_other_text_is_refused_or_canonical(text: str) -> None:
    try:
        choice = parse_choice(text)
    except SearchSpaceError:
        return
    assert str(choice) == text
