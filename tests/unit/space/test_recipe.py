"""The recipe of a fixed method: what it changes in a training, and where it may stand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glorasearch.errors import SearchSpaceError
from glorasearch.space import Recipe, SearchSpace, known_layers
from glorasearch.training import TrainingConfig

LAYERS = known_layers("vit_tiny_patch16_224") or []
LORA = {"name": "x", "choices": {"B": ["lora:4"]}}
factors = st.floats(0.01, 100)


def test_an_empty_recipe_changes_nothing() -> None:
    config = TrainingConfig(lr=3e-3, head_lr=1e-3)
    assert Recipe().apply(config) is config


def test_it_replaces_decay_and_drop_path() -> None:
    changed = Recipe(weight_decay=0.0, drop_path=0.1).apply(TrainingConfig(steps=7, lr=3e-3))
    assert changed == TrainingConfig(steps=7, lr=3e-3, weight_decay=0.0, drop_path=0.1)


@given(factors, factors, factors, st.none() | st.floats(1e-4, 1))
def test_every_group_has_its_rate_times_its_factors(
    every: float, vector: float, head: float, own: float | None
) -> None:
    config = TrainingConfig(lr=3e-3, vector_lr=own, head_lr=own, spectrum_lr=own)
    changed = Recipe(lr_factor=every, vector_lr_factor=vector, head_lr_factor=head).apply(config)
    given_rate = 3e-3 if own is None else own
    assert changed.lr == pytest.approx(3e-3 * every)
    assert (changed.vector_lr or changed.lr) == pytest.approx(given_rate * every * vector)
    assert (changed.head_lr or changed.lr) == pytest.approx(given_rate * every * head)
    assert changed.spectrum_lr == (None if own is None else pytest.approx(own * every))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"lr": 1e-3}, "unknown key 'recipe.lr'"),
        ({"lr_factor": 0.0}, "'recipe.lr_factor'"),
        ({"drop_path": 1.0}, "'recipe.drop_path'"),
        ({"weight_decay": "0"}, "'recipe.weight_decay'"),
    ],
)
def test_what_is_refused(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(SearchSpaceError) as caught:
        SearchSpace.from_dict(LORA | {"recipe": recipe})
    assert message in str(caught.value)


def test_a_space_that_is_searched_has_none() -> None:
    content = LORA | {"choices": {"B": ["none", "lora:4"]}, "recipe": {"lr_factor": 2.0}}
    with pytest.raises(SearchSpaceError, match="recipe: it says how a fixed method is trained"):
        SearchSpace.from_dict(content).bind(LAYERS)


def test_it_is_part_of_what_decides_a_result_only_if_it_says_something() -> None:
    plain, written = SearchSpace.from_dict(LORA), SearchSpace.from_dict(LORA | {"recipe": {"lr_factor": 1.0}})
    other = SearchSpace.from_dict(LORA | {"recipe": {"lr_factor": 2.0}})
    assert plain.identity() == written.identity()
    assert plain.digest != other.digest
    assert plain.bind(LAYERS).digest == other.bind(LAYERS).digest, "its weights fit"
