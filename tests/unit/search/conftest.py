"""A small space, evaluators that need no model, and searches on SQLite files."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.spaces import small_space

from glorasearch.db import Database, TrialStorage
from glorasearch.search import Executor, InProcessExecutor, SearchConfig, SearchDriver, SearchOutcome
from glorasearch.space import BETAS, BoundSpace, EvaluationResult, EvaluationTask, Score, ScoreSums, Subnet
from glorasearch.space.early_stopping import UNIT


def score(task: EvaluationTask) -> Score:
    """Better the more genes are those of a hidden subnet, with some noise: a pure function of the subnet."""
    subnet = Subnet.from_json(task.subnet_json)
    hidden = [hashlib.sha256(repr(gene).encode()).digest()[0] % 3 for gene in subnet]
    wanted = [("none", "vec", "lora")[want] for want in hidden]
    hits = sum(choice.startswith(want) for (_, choice), want in zip(subnet.items(), wanted, strict=True))
    noise = hashlib.sha256(task.subnet_digest.encode()).digest()
    missed = 1 - hits / len(hidden)
    correct = 200 - int(100 * missed) - noise[0] % 8
    tempered = 0.9 * missed + noise[2] / 2560
    return Score(correct, 200, missed + noise[1] / 2560, tempered, beta=BETAS[noise[3] % len(BETAS)], seconds=0.5)


def evaluate(task: EvaluationTask) -> EvaluationResult:
    return EvaluationResult(task.subnet_digest, score(task))


IMAGES = 40


class ImageWise:
    """Scores subnets by `score`, spread over images of different hardness, plus noise: the right one of ten classes
    has the margin over the nine others, which are alike.

    `order` and `chunk` say in which order the images are seen, and how many between two checks of the threshold.
    """

    def __init__(self, order: Sequence[int] | None = None, chunk: int = 5, broken: str = "") -> None:
        self._chunk, self._broken = chunk, broken
        self._order = list(range(IMAGES)) if order is None else list(order)
        self.seen: dict[str, int] = {}
        """Subnet → images seen, of every subnet that was evaluated."""
        self.thresholds: list[float | None] = []

    def images(self, task: EvaluationTask) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Cross-entropy at each of `BETAS` (rows) and correctness of every image, in the order of the split."""
        quality = score(task).cross_entropy
        noise = np.random.default_rng(int(task.subnet_digest[:12], 16)).normal(0.0, 0.6, IMAGES)
        margins = np.linspace(0.0, 8.0, IMAGES) - 4 * quality + noise
        nats = np.round(np.log1p(9 * np.exp(-np.outer(BETAS, margins))) / UNIT) * UNIT
        if self._broken and task.subnet_digest[0] in self._broken:
            nats[:, IMAGES // 2] = float("nan")
        return nats, margins > 0

    def __call__(self, task: EvaluationTask) -> EvaluationResult:
        nats, right = self.images(task)
        nats, right = nats[:, self._order], right[self._order]
        self.thresholds.append(task.threshold.value if task.threshold else None)
        for seen in range(self._chunk, IMAGES, self._chunk):
            sums = ScoreSums(int(right[:seen].sum()), tuple(nats[:, :seen].sum(1).tolist()))
            if task.threshold is None or not sums.finite:
                continue
            bound = task.threshold.bound(sums, seen, IMAGES)
            if task.threshold.excludes(bound):
                self.seen[task.subnet_digest] = seen
                stopped = Score.of(sums, IMAGES, seconds=seen / 100, bound=bound, seen=seen)
                return EvaluationResult(task.subnet_digest, stopped)
        self.seen[task.subnet_digest] = IMAGES
        sums = ScoreSums(int(right.sum()), tuple(nats.sum(1).tolist()))
        return EvaluationResult(task.subnet_digest, Score.of(sums, IMAGES, seconds=IMAGES / 100))


Trials = list[tuple[Any, ...]]


class Search:
    """One study in a database of its own; `run` may be called again and again, as after restarts."""

    def __init__(self, directory: Path, space: BoundSpace | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.space = space or small_space()
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
            executor or InProcessExecutor(evaluate),
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
    return small_space


@pytest.fixture
def evaluator() -> Callable[[EvaluationTask], EvaluationResult]:
    return evaluate


@pytest.fixture
def imagewise() -> type[ImageWise]:
    return ImageWise
