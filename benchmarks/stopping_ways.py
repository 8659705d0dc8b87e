"""What share of the images each way of stopping candidates early forwards, from every image's score of every one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

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

    def bounds(self, fitness: Fitness, number: int, order: NDArray[np.int64]) -> Numbers:
        """`(images,)`: the best that the fitness of a candidate can be once so many images, and one, are seen."""
        return np.asarray(np.cumsum(self.terms(fitness, number)[:, order], -1).min(0) / self.images)

    @property
    def images(self) -> int:
        """How many each candidate was scored on."""
        return self.nats.shape[-1]

    def ends(self, size: int) -> list[int]:
        """The images seen at the end of each chunk."""
        return [*range(size, self.images, size), self.images]


def share(
    scores: Scores, fitness: Fitness, config: SearchConfig, lag: Callable[[int], int], order: OrderOf, size: int
) -> float:
    """Images forwarded, as a share of all, when trial n is stopped by a threshold from the trials below `lag(n)`."""
    values, seen = scores.fitness(fitness), 0
    for number in range(config.trials):
        below = max(0, lag(number))
        if below < config.parents:
            seen += scores.images
            continue
        threshold = np.sort(values[:below])[config.parents - 1]
        bounds = scores.bounds(fitness, number, order(number))
        seen += next((end for end in scores.ends(size) if bounds[end - 1] > threshold), scores.images)
    return seen / scores.images / config.trials


def future_parents(scores: Scores, fitness: Fitness, config: SearchConfig, size: int) -> float:
    """All images of the candidates that are among the parents when their generation ends, one chunk of the others."""
    values, seen = scores.fitness(fitness), 0
    for generation in _generations(config):
        best = np.argsort(values[: generation.stop], kind="stable")[: config.parents]
        whole = int((best >= generation.start).sum())
        seen += whole * scores.images + (len(generation) - whole) * min(size, scores.images)
    return seen / scores.images / config.trials


def by_generation(
    scores: Scores, fitness: Fitness, config: SearchConfig, order: OrderOf, size: int, *, interrupt: bool
) -> float:
    """Images forwarded when all first chunks of a generation come first, then the candidate of the least bound goes on.

    With `interrupt` that is chosen anew after each chunk, else after each candidate. A generation is over when that
    bound is above the fitness of the last parent. Merging a candidate once more is not counted.
    """
    values, ends, seen = scores.fitness(fitness), scores.ends(size), 0
    finished: list[float] = []
    for generation in _generations(config):
        bounds = {number: scores.bounds(fitness, number, order(number)) for number in generation}
        waiting = [(float(bounds[number][ends[0] - 1]), number, 0) for number in generation]
        heapify(waiting)
        seen += ends[0] * len(waiting)
        while waiting:
            bound, number, chunk = heappop(waiting)
            threshold = sorted(finished)[config.parents - 1] if len(finished) >= config.parents else np.inf
            if bound > threshold:
                break
            last = chunk
            while last + 1 < len(ends) and bounds[number][ends[last] - 1] <= threshold:
                last += 1
                if interrupt:
                    break
            seen += ends[last] - ends[chunk]
            if last + 1 == len(ends):
                finished.append(float(values[number]))
            else:
                heappush(waiting, (float(bounds[number][ends[last] - 1]), number, last))
        now = np.sort(values[: generation.stop])[: config.parents]
        assert np.array_equal(now, np.sort(finished)[: config.parents]), "a parent was not scored to its end"
    return seen / scores.images / config.trials


def _generations(config: SearchConfig) -> Iterator[range]:
    """The numbers of the trials of each."""
    for first in range(0, config.trials, config.population):
        yield range(first, min(first + config.population, config.trials))


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
        f"order of the split, lag {lag}": (after(lag), lambda n: np.arange(scores.images)),
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
    for interrupt, way in ((True, "chunk by chunk"), (False, "one by one")):
        for name, order in (("", lambda n: default), (", parents' mean", parents)):
            found[f"a generation {way}, least bound first{name}"] = {
                size: by_generation(scores, fitness, config, order, size, interrupt=interrupt) for size in CHUNKS
            }
    found["future parents, one chunk of others"] = {
        size: future_parents(scores, fitness, config, size) for size in CHUNKS
    }
    return found
