"""Metrics that take classes alike are scikit-learn's, and what some of the images leave open bounds them exactly."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

from glorasearch.space import BETAS, ClassCounts, Fitness, Score, ScoreSums, StopThreshold, fitness_name

CLASSES = 5
Image = tuple[int, int]
"""Its label, and the class that it is taken for."""
images = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=30)
COUNTED: tuple[Fitness, ...] = ("balanced_accuracy", "macro_f1")


def sums_of(seen: list[Image], whole: list[Image]) -> ScoreSums:
    def by_class(found: list[int]) -> tuple[int, ...]:
        return tuple(found.count(one) for one in range(CLASSES))

    counts = ClassCounts(
        by_class([label for label, _ in whole]),
        by_class([label for label, _ in seen]),
        by_class([taken for _, taken in seen]),
        by_class([label for label, taken in seen if label == taken]),
    )
    return ScoreSums(sum(counts.correct), (0.0,) * len(BETAS), counts)


@given(candidate=images)
def test_they_are_those_of_scikit_learn(candidate: list[Image]) -> None:
    labels, taken = zip(*candidate, strict=True)
    score = Score.of(sums_of(candidate, candidate), len(candidate))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that no image has
        assert score.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, taken), abs=1e-15)
    assert score.macro_f1 == pytest.approx(f1_score(labels, taken, average="macro", zero_division=0), abs=1e-15)


@pytest.mark.parametrize("fitness", COUNTED)
@given(candidate=images, data=st.data())
def test_the_bound_never_falls_below_the_score_and_only_ever_falls(
    fitness: Fitness, candidate: list[Image], data: st.DataObject
) -> None:
    score = getattr(Score.of(sums_of(candidate, candidate), len(candidate)), fitness)
    order = data.draw(st.permutations(candidate))
    threshold = StopThreshold(fitness, data.draw(st.sampled_from([score, score + 0.01, score - 0.01, 0.5])))
    found = [
        threshold.bound(sums_of(order[:seen], candidate), seen, len(candidate)) for seen in range(len(candidate) + 1)
    ]
    assert found[0] == 1
    assert found == sorted(found, reverse=True)
    assert found[-1] == score
    excluded = [threshold.excludes(bound) for bound in found]
    assert excluded == sorted(excluded)
    assert excluded[-1] == (score < threshold.value)


@pytest.mark.parametrize("fitness", COUNTED)
@given(candidate=images)
def test_the_bound_is_reached_where_all_images_to_come_are_right(fitness: Fitness, candidate: list[Image]) -> None:
    half = len(candidate) // 2
    hopeful = candidate[:half] + [(label, label) for label, _ in candidate[half:]]
    bound = StopThreshold(fitness, 0.5).bound(sums_of(candidate[:half], candidate), half, len(candidate))
    assert bound == getattr(Score.of(sums_of(hopeful, candidate), len(candidate)), fitness)


def test_how_they_are_written() -> None:
    names = [fitness_name(name) for name in ("tempered", "cross_entropy", "balanced_accuracy", "macro_f1", "auc")]
    assert names == ["tempered cross-entropy", "cross-entropy", "balanced accuracy", "macro F1", "AUC"]
