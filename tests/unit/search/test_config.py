from typing import Any

import pytest

import glorasearch.search
from glorasearch.errors import ConfigError
from glorasearch.search import SAMPLERS, SearchConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "grid"}, "'search.sampler': expected 'evolution', 'random', 'tpe' or 'nsga2', found 'grid'"),
        ({"mode": "async"}, "'search.mode': expected 'generational' or 'steady', found 'async'"),
        (
            {"mode": "steady", "sampler": "nsga2"},
            "sampler 'nsga2' works in generations and has no mode 'steady'; samplers that have it are evolution",
        ),
        ({"fitness": "loss"}, "'search.fitness': expected 'tempered', 'accuracy', .* or 'squared_error', found 'loss'"),
        *(
            (
                {"sampler": "nsga2", "fitness": fitness},
                f"fitness is '{fitness}', but sampler 'nsga2' breeds by accuracy, p",
            )
            for fitness in ("tempered", "cross_entropy", "macro_f1")
        ),
        (
            {"sampler": "nsga2", "objectives": ["auc", "bytes"], "fitness": "accuracy"},
            "fitness is 'accuracy', but sampler 'nsga2' breeds by auc, bytes; .* fitness = \"auc\", or leave it out",
        ),
        ({"objectives": ["auc", "bytes"]}, "sampler 'evolution' has one, its fitness; set sampler = 'nsga2'"),
        *(
            ({"sampler": "nsga2", "objectives": objectives}, "expected two different ones or more")
            for objectives in ([], ["auc"], ["auc", "auc"], ["parameters", "bytes"])
        ),
        ({"sampler": "nsga2", "objectives": ["speed", "auc"]}, "expected 'tempered', .* or 'training_flops'"),
        ({"trials": 0}, "'search.trials': expected at least 1, found 0"),
        ({"population": 1}, "'search.population': expected at least 2, found 1"),
        ({"batch": 0}, "'search.batch': expected at least 1, found 0"),
        ({"early_stopping_lag": 0}, "'search.early_stopping_lag': expected at least 1, found 0"),
        ({"seed": -1}, "'search.seed': expected at least 0, found -1"),
        ({"parents": 1}, "'search.parents': expected at least 2, found 1"),
        ({"parents": 51}, "'search': parents is 51; allowed are 2 to the population, here 50"),
        ({"mutation": 1.1}, "'search.mutation': expected at most 1, found 1.1"),
        ({"max_failure_share": -0.1}, "'search.max_failure_share': expected at least 0, found -0.1"),
    ],
)
def test_what_is_out_of_range_is_refused_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchConfig(**values)


def test_accuracy_or_nothing_may_be_the_fitness_of_nsga2() -> None:
    assert SearchConfig(sampler="nsga2", fitness="accuracy").fitness == "accuracy"
    assert SearchConfig(sampler="nsga2").replace(trials=7).fitness == "tempered"
    assert SearchConfig(sampler="nsga2").for_one_subnet().fitness == "tempered"


def test_objectives_by_name() -> None:
    config = SearchConfig(sampler="nsga2", objectives=["bytes", "macro_f1", "auc", "latency"])
    assert (config.fitness, config.metrics, config.costs) == ("macro_f1", ("macro_f1", "auc"), ("bytes", "latency"))
    assert config.replace(trials=7).fitness == "macro_f1"
    assert config.replace(fitness="auc").fitness == "auc"
    assert config.optimised == config.front == config.objectives
    assert config.identity()["objectives"] == ["bytes", "macro_f1", "auc", "latency"]
    assert "objectives" not in SearchConfig(sampler="nsga2").identity()
    assert config.for_one_subnet().optimised == ("tempered",)
    assert SearchConfig(fitness="auc").front == ("auc", "parameters")
    assert SearchConfig().front == ("accuracy", "parameters")


def test_what_cannot_be_bounded_is_evaluated_to_the_end() -> None:
    kept = [SearchConfig(fitness=fitness).kept for fitness in ("tempered", "balanced_accuracy", "macro_f1", "auc")]
    assert kept == [10, 10, 10, None]
    assert SearchConfig(fitness="macro_f1").metrics == ("macro_f1",)
    assert SearchConfig().metrics == ()


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
