from typing import Any

import pytest

import glorasearch.search
from glorasearch.errors import InputError
from glorasearch.search import SAMPLERS, SearchConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "grid"}, "unknown sampler 'grid'; known are evolution, random, tpe, nsga2"),
        ({"mode": "async"}, "unknown mode 'async'; known are generational, steady"),
        (
            {"mode": "steady", "sampler": "nsga2"},
            "sampler 'nsga2' works in generations and has no mode 'steady'; samplers that have it are evolution",
        ),
        ({"fitness": "loss"}, "unknown fitness 'loss'; known are accuracy, cross_entropy"),
        ({"trials": 0}, "trials is 0; allowed are whole numbers from 1"),
        ({"population": 1}, "population is 1; allowed are whole numbers from 2"),
        ({"batch": 0}, "batch is 0; allowed are whole numbers from 1"),
        ({"early_stopping_lag": 0}, "early_stopping_lag is 0; allowed are whole numbers from 1"),
        ({"seed": -1}, "seed is -1; allowed are whole numbers from 0"),
        ({"parents": 1}, "parents is 1; allowed are 2 to the population, here 50"),
        ({"parents": 51}, "parents is 51; allowed are 2 to the population, here 50"),
        ({"mutation": 1.1}, "mutation is 1.1; allowed are numbers from 0 to 1"),
        ({"max_failure_share": -0.1}, "max_failure_share is -0.1; allowed are numbers from 0 to 1"),
    ],
)
def test_what_is_out_of_range_is_refused_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SearchConfig(**values)


def test_a_study_may_grow_but_not_change() -> None:
    config = SearchConfig()
    assert config.identity() == SearchConfig(trials=3, batch=5, max_failure_share=0.5).identity()
    assert (
        config.identity()
        == SearchConfig(early_stopping=False).identity()
        == SearchConfig(early_stopping_lag=3).identity()
    )
    assert config.identity() != SearchConfig(mutation=0.1).identity()
    assert SearchConfig(mode="steady").identity() == config.identity() | {"mode": "steady"}
    identities = [SearchConfig(sampler=sampler).identity() for sampler in SAMPLERS]
    assert all(first not in identities[:index] for index, first in enumerate(identities))


def test_the_early_stopping_lag_depends_on_the_executor_unless_it_is_given() -> None:
    assert (SearchConfig().lag(in_order=True), SearchConfig().lag(in_order=False)) == (4, None)
    for lag in (1, 9):
        config = SearchConfig(early_stopping_lag=lag)
        assert config.lag(in_order=True) == config.lag(in_order=False) == lag


def test_public_names() -> None:
    assert glorasearch.search.__all__ == sorted(glorasearch.search.__all__, key=lambda name: (not name.isupper(), name))
