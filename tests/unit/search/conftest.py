"""A small space, an evaluator that needs no model, and searches on SQLite files."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glorasearch.db import Database, TrialStorage
from glorasearch.search import Executor, InProcessExecutor, SearchConfig, SearchDriver, SearchOutcome
from glorasearch.space import BoundSpace, EvaluationResult, EvaluationTask, LayerShape, SearchSpace, Subnet

CHOICES = {"A": ["lora:2", "vector", "none"], "B": ["lora:4", "lora:2", "vector", "none"], "E": ["vector", "none"]}


def make_space(
    layers: int = 6, choices: dict[str, list[str]] | None = None, budget: dict[str, int] | None = None
) -> BoundSpace:
    data = {"name": "small", "choices": choices or CHOICES, "budget": {"max": 900} if budget is None else budget}
    return SearchSpace.from_dict(data).bind([LayerShape(f"blocks.{index}.fc", 16, 32) for index in range(layers)])


def score(task: EvaluationTask) -> EvaluationResult:
    """Better the more genes are those of a hidden subnet, with some noise: a pure function of the subnet."""
    subnet = Subnet.from_json(task.subnet_json)
    hidden = [hashlib.sha256(repr(gene).encode()).digest()[0] % 3 for gene in subnet]
    wanted = [("none", "vec", "lora")[want] for want in hidden]
    hits = sum(choice.startswith(want) for (_, choice), want in zip(subnet.items(), wanted, strict=True))
    noise = hashlib.sha256(task.subnet_digest.encode()).digest()
    missed = 1 - hits / len(hidden)
    correct = 200 - int(100 * missed) - noise[0] % 8
    return EvaluationResult(task.subnet_digest, correct, 200, missed + noise[1] / 2560, seconds=0.5)


Trials = list[tuple[Any, ...]]


class Search:
    """One study in a database of its own; `run` may be called again and again, as after restarts."""

    def __init__(self, directory: Path, space: BoundSpace | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.space = space or make_space()
        self.database = Database(f"sqlite:///{directory / 'study.db'}")

    def driver(
        self,
        config: SearchConfig,
        executor: Executor | None = None,
        storage: TrialStorage | None = None,
        **more: Any,
    ) -> SearchDriver:
        weights = more.pop("weights", "weights")
        return SearchDriver(
            self.space,
            storage or TrialStorage(self.database),
            executor or InProcessExecutor(score),
            weights,
            "study",
            config,
            **more,
        )

    def run(self, config: SearchConfig, executor: Executor | None = None, **more: Any) -> SearchOutcome:
        return self.driver(config, executor, **more).run()

    @property
    def trials(self) -> Trials:
        """All that is stored of the trials, but for times and Optuna's own attributes."""
        storage = TrialStorage(self.database)
        trials = storage.get_all_trials(storage.get_study_id_from_name("study"), deepcopy=False)
        return [(trial.number, trial.params, trial.values, trial.user_attrs, trial.state) for trial in trials]


NewSearch = Callable[..., Search]


@pytest.fixture
def new_search(tmp_path: Path) -> NewSearch:
    """Each call gives a study of its own."""
    made: list[Search] = []

    def make(space: BoundSpace | None = None) -> Search:
        made.append(Search(tmp_path / str(len(made)), space))
        return made[-1]

    return make


@pytest.fixture
def space_maker() -> Callable[..., BoundSpace]:
    return make_space


@pytest.fixture
def evaluator() -> Callable[[EvaluationTask], EvaluationResult]:
    return score
