"""What share of the images each way of stopping candidates early forwards, from every image's score of every one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from glorasearch.evaluation.scoring import REFERENCES as REFERENCES_USED
from glorasearch.search import SearchConfig
from glorasearch.search.config import IN_ORDER_LAG
from glorasearch.space import BETAS, Fitness

CHUNKS = (10, 20, 25, 50, 100)
REFERENCES = (1, 2, 4, 8, 16)
LAGS = (1, 8, 16, 32)

Numbers = NDArray[np.float64]
OrderOf = Callable[[int], NDArray[np.int64]]
"""Trial number → the order of its images."""


@dataclass(frozen=True)
class Scores:
    """Cross-entropies and errors of candidates on images in the order of the split."""

    nats: Numbers
    """`(candidates, temperatures, images)`."""
    wrong: NDArray[np.bool_]
    """`(candidates, images)`."""

    @property
    def plain(self) -> Numbers:
        """`(candidates, images)`: cross-entropies of the logits as they are."""
        return self.nats[:, BETAS.index(1.0)]

    def order(self, rows: slice | Sequence[int]) -> NDArray[np.int64]:
        """The images by their mean cross-entropy over these candidates, the hardest first."""
        return np.argsort(-self.plain[rows].mean(0), kind="stable")

    def terms(self, fitness: Fitness, number: int | slice = slice(None)) -> Numbers:
        """`(..., temperatures, images)`: the least of their sums over the images is the fitness; less is better."""
        kept = {"tempered": self.nats, "cross_entropy": self.plain[:, None], "accuracy": self.wrong[:, None]}[fitness]
        return np.asarray(kept[number], np.float64)

    def fitness(self, fitness: Fitness) -> Numbers:
        """Of each candidate; less is better."""
        return self.terms(fitness).mean(-1).min(-1)


def share(
    scores: Scores, fitness: Fitness, config: SearchConfig, lag: Callable[[int], int], order: OrderOf, size: int
) -> float:
    """Images forwarded, as a share of all, when trial n is stopped by a threshold from the trials below `lag(n)`."""
    values, images = scores.fitness(fitness), scores.nats.shape[-1]
    ends = [*range(size, images, size), images]
    seen = 0
    for number in range(config.trials):
        below = max(0, lag(number))
        if below < config.parents:
            seen += images
            continue
        threshold = np.sort(values[:below])[config.parents - 1]
        bounds = np.cumsum(scores.terms(fitness, number)[:, order(number)], -1).min(0) / images
        seen += next((end for end in ends if bounds[end - 1] > threshold), images)
    return seen / images / config.trials


def future_parents(scores: Scores, fitness: Fitness, config: SearchConfig, size: int) -> float:
    """All images of the candidates that are among the parents when their generation ends, one chunk of the others.

    No rule that knows a candidate only from its chunks on can forward less: what a parent scores has to be known.
    """
    values, images = scores.fitness(fitness), scores.nats.shape[-1]
    seen = 0
    for first in range(0, config.trials, config.population):
        end = min(first + config.population, config.trials)
        best = np.argsort(values[:end], kind="stable")[: config.parents]
        whole = int((best >= first).sum())
        seen += whole * images + (end - first - whole) * min(size, images)
    return seen / images / config.trials


def best_bound_first(scores: Scores, fitness: Fitness, config: SearchConfig, order: OrderOf, size: int) -> float:
    """Images forwarded when a generation's next chunk is always that of the candidate with the least bound.

    A generation is over when that bound is above the fitness of the last parent. Nothing is counted for merging a
    candidate again that another one interrupted.
    """
    values, images = scores.fitness(fitness), scores.nats.shape[-1]
    ends = [*range(size, images, size), images]
    finished: list[float] = []
    seen = 0
    for first in range(0, config.trials, config.population):
        waiting: list[tuple[float, int, int]] = []
        bounds: dict[int, Numbers] = {}
        for number in range(first, min(first + config.population, config.trials)):
            bounds[number] = np.cumsum(scores.terms(fitness, number)[:, order(number)], -1).min(0) / images
            heappush(waiting, (float(bounds[number][ends[0] - 1]), number, 0))
            seen += ends[0]
        while waiting:
            bound, number, chunk = heappop(waiting)
            if len(finished) >= config.parents and bound > sorted(finished)[config.parents - 1]:
                break
            if chunk == len(ends) - 1:
                finished.append(float(values[number]))
                continue
            seen += ends[chunk + 1] - ends[chunk]
            heappush(waiting, (float(bounds[number][ends[chunk + 1] - 1]), number, chunk + 1))
        now = np.sort(values[: min(first + config.population, config.trials)])[: config.parents]
        assert np.array_equal(now, np.sort(finished)[: config.parents]), "a parent was not scored to its end"
    return seen / images / config.trials


def first_chunk_of_all(scores: Scores, fitness: Fitness, config: SearchConfig, order: OrderOf, size: int) -> float:
    """Images forwarded when a generation's first chunks come first, and each is then scored on in the order of these
    bounds; merging each once more is not counted."""
    values, images = scores.fitness(fitness), scores.nats.shape[-1]
    ends = [*range(size, images, size), images]
    finished: list[float] = []
    seen = 0
    for first in range(0, config.trials, config.population):
        numbers = range(first, min(first + config.population, config.trials))
        bounds = {n: np.cumsum(scores.terms(fitness, n)[:, order(n)], -1).min(0) / images for n in numbers}
        for number in sorted(numbers, key=lambda n: float(bounds[n][ends[0] - 1])):
            last = sorted(finished)[config.parents - 1] if len(finished) >= config.parents else np.inf
            end = next((end for end in ends if bounds[number][end - 1] > last), None)
            seen += end or images
            if end is None:
                finished.append(float(values[number]))
    return seen / images / config.trials


def simulate(scores: Scores, references: Scores, fitness: Fitness, config: SearchConfig) -> dict[str, dict[int, float]]:
    """Way of doing it → images of a chunk → share of images forwarded."""
    used, lag = REFERENCES_USED, IN_ORDER_LAG
    population, default = config.population, references.order(slice(REFERENCES_USED))
    values = scores.fitness(fitness)
    last: dict[int, NDArray[np.int64]] = {}

    def parents(number: int) -> NDArray[np.int64]:
        first = number // population * population
        if first not in last:
            best = np.argsort(values[:first], kind="stable")[: config.parents].tolist()
            last[first] = scores.order(best) if best else default
        return last[first]

    def after(lag: int) -> Callable[[int], int]:
        return lambda number: number - lag + 1

    ways: dict[str, tuple[Callable[[int], int], OrderOf]] = {
        f"order of the split, lag {lag}": (after(lag), lambda n: np.arange(scores.nats.shape[-1])),
        **{
            f"{m} random subnets, lag {lag}": (after(lag), lambda n, m=m: references.order(slice(m)))
            for m in REFERENCES
        },  # type: ignore[misc]
        **{f"{used} random subnets, lag {other}": (after(other), lambda n: default) for other in LAGS},
        f"{used} random subnets, threshold a generation": (lambda n: n // population * population, lambda n: default),
        f"the parents' mean, lag {lag}": (after(lag), parents),
        f"oracle: the candidate's own, lag {lag}": (after(lag), lambda n: np.argsort(-scores.plain[n])),
    }
    found = {
        name: {size: share(scores, fitness, config, lag, order, size) for size in CHUNKS}
        for name, (lag, order) in ways.items()
    }
    found["best bound first in a generation"] = {
        size: best_bound_first(scores, fitness, config, lambda n: default, size) for size in CHUNKS
    }
    found["the same, the parents' mean"] = {
        size: best_bound_first(scores, fitness, config, parents, size) for size in CHUNKS
    }
    for name, order in (("", lambda n: default), (", parents' mean", parents)):
        found[f"first chunk of a generation{name}"] = {
            size: first_chunk_of_all(scores, fitness, config, order, size) for size in CHUNKS
        }
    found["future parents, one chunk of others"] = {
        size: future_parents(scores, fitness, config, size) for size in CHUNKS
    }
    return found
