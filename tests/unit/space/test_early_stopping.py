"""The bound of a candidate that is stopped is exact, whatever the order of the images and however large the numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glorasearch.space import Fitness, StopThreshold
from glorasearch.space.early_stopping import EXACT, UNIT

nats = st.one_of(st.integers(0, 2**34), st.integers(0, 2**60)).map(lambda units: units * UNIT)
images = st.lists(st.tuples(nats, st.booleans()), min_size=1, max_size=30)
FITNESSES: tuple[Fitness, ...] = ("accuracy", "cross_entropy")


def fitness_of(fitness: Fitness, candidate: list[tuple[float, bool]]) -> float:
    """As an evaluation to the end records it."""
    right, total = sum(right for _, right in candidate), float(sum(nats for nats, _ in candidate))
    return right / len(candidate) if fitness == "accuracy" else total / len(candidate)


def bounds(threshold: StopThreshold, candidate: list[tuple[float, bool]]) -> list[float]:
    """The bound after every image."""
    found, correct, total = [], 0, 0.0
    for seen, (nats, right) in enumerate(candidate, 1):
        correct, total = correct + right, total + nats
        found.append(threshold.bound(correct, total, seen, len(candidate)))
    return found


@pytest.mark.parametrize("fitness", FITNESSES)
@given(data=st.data())
def test_who_is_stopped_is_worse_than_the_best_k_and_who_is_worse_can_be_stopped(
    fitness: Fitness, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, 20))
    one = st.lists(st.tuples(nats, st.booleans()), min_size=size, max_size=size)
    candidates = data.draw(st.lists(one, min_size=2, max_size=12))
    kept = data.draw(st.integers(1, len(candidates) - 1))
    *earlier, candidate = candidates
    sign = -1 if fitness == "accuracy" else 1
    scores = [sign * fitness_of(fitness, other) for other in earlier]
    threshold = StopThreshold(fitness, sign * sorted(scores)[kept - 1])
    score = sign * fitness_of(fitness, candidate)
    excluded = [threshold.excludes(bound) for bound in bounds(threshold, data.draw(st.permutations(candidate)))]
    if any(excluded):
        assert sum(other < score for other in scores) >= kept
    assert excluded == sorted(excluded), "once worse, worse for good"
    if fitness == "accuracy" or sum(nats for nats, _ in candidate) < EXACT:
        assert excluded[-1] == (score > sign * threshold.value)


@given(candidate=images, data=st.data())
def test_sums_do_not_depend_on_the_order(candidate: list[tuple[float, bool]], data: st.DataObject) -> None:
    threshold = StopThreshold("cross_entropy", 1.0)
    shuffled = data.draw(st.permutations(candidate))
    assert bounds(threshold, candidate)[-1] == bounds(threshold, shuffled)[-1]
    if sum(round(nats / UNIT) for nats, _ in candidate) * UNIT < EXACT:
        assert fitness_of("cross_entropy", candidate) == fitness_of("cross_entropy", shuffled)


@pytest.mark.parametrize("fitness", FITNESSES)
def test_as_good_as_the_threshold_is_good_enough(fitness: Fitness) -> None:
    """Ties are broken by the other score, so they go on."""
    threshold = StopThreshold(fitness, 0.75)
    assert not threshold.excludes(0.75)
    assert threshold.excludes(0.7499) == (fitness == "accuracy")
    assert threshold.excludes(0.7501) == (fitness == "cross_entropy")
