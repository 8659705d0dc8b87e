"""A search starts from what people know: named points, and subnets of files.

That such a search makes the same trials however often it is cut off, with any number of workers, and with early
stopping or without is tested with all others (`test_resume`, `test_workers`, `test_early_stopping`): it is the default.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.spaces import small_space

from glorasearch.db import TrialStorage
from glorasearch.errors import ConfigError, SearchError
from glorasearch.search import SAMPLERS, InProcessExecutor, LogNormalSeconds, SearchConfig, SimulatedExecutor
from glorasearch.search.best import origin_of
from glorasearch.search.starts import choose_starts, load_outside
from glorasearch.space import Evaluate, EvaluationResult, EvaluationTask, Score, Subnet, named_points

SIZE: dict[str, Any] = {"trials": 48, "population": 24, "parents": 4, "batch": 8}
POINT = "lora:2 everywhere"


def near(wanted: Subnet) -> Evaluate:
    """An evaluation by which a subnet is better the more genes it has of the wanted one."""

    def evaluate(task: EvaluationTask) -> EvaluationResult:
        subnet = Subnet.from_json(task.subnet_json)
        hits = sum(subnet[gene] == choice for gene, choice in wanted.items())
        missed = 1 - hits / len(wanted)
        return EvaluationResult(task.subnet_digest, Score(hits, len(wanted), missed, missed, beta=1.0))

    return evaluate


def starts_of(search: Any) -> dict[int, str]:
    return {trial[0]: trial[3]["start"] for trial in search.trials if "start" in trial[3]}


@pytest.mark.parametrize(
    "options",
    [*({"sampler": sampler} for sampler in SAMPLERS), {"mode": "steady"}, {"sampler": "tpe", "mode": "steady"}],
)
def test_the_first_trials_are_the_named_points_and_say_so(new_search: Any, options: dict[str, Any]) -> None:
    search = new_search()
    search.run(SearchConfig(**SIZE | options))

    points = named_points(search.space)
    assert len(points) > 12, "half of a generation"
    assert starts_of(search) == dict(enumerate(list(points)[:12]))
    digests = [trial[3]["subnet"] for trial in search.trials]
    assert digests[:12] == [subnet.digest for subnet in list(points.values())[:12]]


def test_what_is_drawn_does_not_depend_on_the_starts(new_search: Any) -> None:
    searches = [new_search(), new_search()]
    for search, start in zip(searches, (("named",), ()), strict=True):
        search.run(SearchConfig(start=start, **SIZE | {"trials": 24}))
    with_starts, without = ([trial[3]["subnet"] for trial in search.trials] for search in searches)
    assert starts_of(searches[1]) == {}
    assert with_starts[12:] == without[12:]
    assert set(with_starts[:12]).isdisjoint(without[:12])


def test_what_is_listed_by_itself_comes_first(new_search: Any) -> None:
    search = new_search()
    listed = ("bitfit everywhere", "named", POINT)
    search.run(SearchConfig(start=listed, **SIZE))
    names = list(starts_of(search).values())
    others = [name for name in named_points(search.space) if name not in listed]
    assert names == ["bitfit everywhere", POINT, *others[:10]]


def test_continued_within_its_starts_it_is_the_same_search(new_search: Any, evaluator: Evaluate) -> None:
    whole, pieces = new_search(), new_search()
    whole.run(SearchConfig(**SIZE))
    for trials in (5, 12, 13, 48):
        workers = SimulatedExecutor(evaluator, 3, LogNormalSeconds())
        pieces.run(SearchConfig(early_stopping_lag=4, **SIZE | {"trials": trials}), workers)
    assert pieces.trials == whole.trials


def test_another_start_is_another_search(new_search: Any) -> None:
    search = new_search()
    search.run(SearchConfig(**SIZE))
    with pytest.raises(SearchError, match=r"start\.0 was 'lora:2 everywhere, .*now 'bitfit everywhere, .* more;"):
        search.run(SearchConfig(start=("bitfit everywhere",), **SIZE))


def test_the_winner_is_a_start(new_search: Any) -> None:
    search = new_search()
    outcome = search.run(SearchConfig(**SIZE), InProcessExecutor(near(named_points(search.space)[POINT])))
    assert outcome.best.start == outcome.start == POINT
    assert (outcome.start_share, outcome.best.to_row()["start"]) == (1.0, POINT)


@pytest.mark.parametrize("mode", ["generational", "steady"])
def test_the_winner_descends_from_a_start(new_search: Any, mode: Any) -> None:
    search = new_search()
    point = named_points(search.space)[POINT]
    genes = [gene for gene, _ in point.items()][:3]
    wanted = point.replace(dict.fromkeys(genes, "vector") | {gene: "none" for gene in genes if gene[1] == "B"})
    config = SearchConfig(mode=mode, **SIZE | {"trials": 200, "mutation": 0.1})
    outcome = search.run(config, InProcessExecutor(near(wanted)))

    assert outcome.best.start is None
    assert outcome.best.parents
    same = sum(outcome.subnet[gene] == choice for gene, choice in point.items())
    assert (outcome.start, outcome.start_share) == (POINT, same / len(point))
    assert same < len(point)

    storage, starts = TrialStorage(search.database), choose_starts(search.space, config, {})
    assert origin_of(storage, "study", search.space, outcome.subnet, starts) == (POINT, same / len(point))
    assert origin_of(storage, "study", search.space, point, starts) == (POINT, 1.0)
    above_the_budget = search.space.largest()
    assert origin_of(storage, "study", search.space, above_the_budget, starts) == (None, None)


def test_a_winner_without_starts_among_its_ancestors_says_so(new_search: Any) -> None:
    outcome = new_search().run(SearchConfig(start=(), **SIZE))
    assert (outcome.start, outcome.start_share) == (None, None)


WRITTEN: list[tuple[str, Callable[[Any], Any]]] = [
    ("mine.json", lambda subnet: subnet),
    ("report.json", lambda subnet: {"run": "r", "winner": {"subnet": subnet, "trial": 3}}),
    ("config.json", lambda subnet: {"architecture": "vit", "glorasearch": {"subnet": subnet}}),
]


@pytest.mark.parametrize(("name", "wrap"), WRITTEN)
def test_a_subnet_from_a_file(new_search: Any, tmp_path: Path, name: str, wrap: Callable[[Any], Any]) -> None:
    search = new_search()
    subnet = search.space.smallest().replace({("blocks.1.fc", "B"): "lora:2"})
    genes = {layer: {t: c for t, c in tensors.items() if c != "none"} for layer, tensors in subnet.to_dict().items()}
    (tmp_path / name).write_text(json.dumps(wrap(genes)))
    search.run(SearchConfig(start=(str(tmp_path / name),), **SIZE | {"trials": 2}))
    assert starts_of(search) == {0: name}
    assert search.trials[0][3]["subnet"] == subnet.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"blocks.0.fc": {"B": "lora:8"}}', r"mine.json' does not fit: .*gene blocks.0.fc.B: 'lora:8' is not offered"),
        ('{"head": {"B": "lora:2"}}', r"has no gene head\.B"),
        (json.dumps({f"blocks.{n}.fc": {"B": "lora:4"} for n in range(6)}), "1,152 .*the budget is 0 to 900"),
        ("[1]", r"holds no subnet: a subnet must be a JSON object"),
        ("{", r"mine.json' is not JSON"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(new_search: Any, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    search = new_search()
    with pytest.raises(ConfigError, match=message):
        search.run(SearchConfig(start=(str(path),), **SIZE))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("nowhere.json", r"'nowhere.json' cannot be read: No such file"),
        ("lora:3 everywhere", r"no named point of space small .*the nearest are 'lora:2 everywhere'"),
        ("lora:4 everywhere", r"no named point of space small within its budget"),
        ("run:other", r"there are no runs here; give the path of its report.json"),
    ],
)
def test_an_unknown_start_is_refused(new_search: Any, entry: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        new_search().run(SearchConfig(start=(entry,), **SIZE))


def test_more_than_a_generation_is_refused() -> None:
    space = small_space()
    names = tuple(named_points(space))[:4]
    assert list(choose_starts(space, SearchConfig(start=names, population=4, parents=2), {})) == list(names)
    with pytest.raises(ConfigError, match=r"lists 4 subnets, more than the 3 trials"):
        choose_starts(space, SearchConfig(start=names, population=3, parents=2), {})


def test_a_start_from_elsewhere_that_is_a_named_point_is_one_trial() -> None:
    space = small_space()
    outside = load_outside(["run:old"], lambda entry: named_points(space)[POINT])
    starts = choose_starts(space, SearchConfig(start=("run:old", "named")), outside)
    assert next(iter(starts)) == "run:old"
    assert POINT not in starts
