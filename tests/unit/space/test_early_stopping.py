"""The bound of a candidate that is stopped is exact, whatever the order of the images and however large the numbers."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glorasearch.space import BETAS, FITNESSES, Fitness, Score, ScoreSums, StopThreshold
from glorasearch.space.early_stopping import EXACT, UNIT

Image = tuple[tuple[float, ...], bool]
"""Cross-entropy at each of `BETAS`, and whether it is classified correctly."""

nats = st.one_of(st.integers(0, 2**34), st.integers(0, 2**60)).map(lambda units: units * UNIT)
anything = st.tuples(
    st.lists(nats, min_size=3, max_size=3).map(lambda found: tuple(found) + (found[0],) * 34), st.booleans()
)
"""Three numbers stand for all temperatures: no relation between them is assumed."""
logits = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=5)


def of_logits(found: list[float]) -> Image:
    """An image of the first class."""
    return tuple(round((_logsumexp([b * z for z in found]) - b * found[0]) / UNIT) * UNIT for b in BETAS), (
        max(found) == found[0]
    )


def _logsumexp(values: list[float]) -> float:
    most = max(values)
    return most + math.log(sum(math.exp(value - most) for value in values))


image = st.one_of(anything, logits.map(of_logits))


def sums_of(candidate: list[Image]) -> ScoreSums:
    """Added one by one, in this order."""
    totals = [0.0] * len(BETAS)
    for nats, _ in candidate:
        totals = [total + one for total, one in zip(totals, nats, strict=True)]
    return ScoreSums(sum(right for _, right in candidate), tuple(totals))


def fitness_of(fitness: Fitness, candidate: list[Image]) -> float:
    """As an evaluation to the end records it."""
    return float(getattr(Score.of(sums_of(candidate), len(candidate)), fitness))


def bounds(threshold: StopThreshold, candidate: list[Image]) -> list[float]:
    """The bound after every image."""
    return [threshold.bound(sums_of(candidate[:n]), n, len(candidate)) for n in range(1, len(candidate) + 1)]


@pytest.mark.parametrize("fitness", FITNESSES)
@given(data=st.data())
def test_who_is_stopped_is_worse_than_the_best_k_and_who_is_worse_can_be_stopped(
    fitness: Fitness, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, 12))
    one = st.lists(image, min_size=size, max_size=size)
    candidates = data.draw(st.lists(one, min_size=2, max_size=6))
    kept = data.draw(st.integers(1, len(candidates) - 1))
    *earlier, candidate = candidates
    sign = -1 if fitness == "accuracy" else 1
    scores = [sign * fitness_of(fitness, other) for other in earlier]
    threshold = StopThreshold(fitness, sign * sorted(scores)[kept - 1])
    score = sign * fitness_of(fitness, candidate)
    found = bounds(threshold, data.draw(st.permutations(candidate)))
    assert all(sign * bound <= score for bound in found)
    excluded = [threshold.excludes(bound) for bound in found]
    if any(excluded):
        assert sum(other < score for other in scores) >= kept
    assert excluded == sorted(excluded), "once worse, worse for good"
    if fitness == "accuracy" or score * size < EXACT:
        assert excluded[-1] == (score > sign * threshold.value)


@pytest.mark.parametrize("fitness", FITNESSES)
@given(candidate=st.lists(image, min_size=1, max_size=20), data=st.data())
def test_sums_do_not_depend_on_the_order(fitness: Fitness, candidate: list[Image], data: st.DataObject) -> None:
    threshold = StopThreshold(fitness, 1.0)
    shuffled = data.draw(st.permutations(candidate))
    assert bounds(threshold, candidate)[-1] == bounds(threshold, shuffled)[-1]
    if fitness_of(fitness, candidate) * len(candidate) < EXACT:
        assert fitness_of(fitness, candidate) == fitness_of(fitness, shuffled)


@pytest.mark.parametrize("fitness", FITNESSES)
def test_as_good_as_the_threshold_is_good_enough(fitness: Fitness) -> None:
    """Ties are broken by the other score, so they go on."""
    threshold = StopThreshold(fitness, 0.75)
    assert not threshold.excludes(0.75)
    assert threshold.excludes(0.7499) == (fitness == "accuracy")
    assert threshold.excludes(0.7501) == (fitness != "accuracy")


def test_the_grid_is_that_of_the_documentation() -> None:
    """1 is in it, so that the plain cross-entropy is one of its sums; evenly spaced, so that no range is favoured."""
    assert (len(BETAS), BETAS[0], BETAS[-1]) == (37, 1 / 32, 16)
    assert all(larger / smaller == pytest.approx(2**0.25, rel=1e-15) for smaller, larger in pairwise(BETAS))
    assert ScoreSums(0, tuple(float(beta != 1) for beta in BETAS)).beta == 1


def test_of_several_best_temperatures_the_highest_is_given() -> None:
    sums = ScoreSums(3, (2.0, 1.0, 1.0, *[3.0] * 34))
    score = Score.of(sums, 4)
    assert (sums.tempered, sums.cross_entropy, score.tempered, score.cross_entropy) == (1.0, 3.0, 0.25, 0.75)
    assert (score.beta, score.temperature) == (BETAS[1], 1 / BETAS[1])
