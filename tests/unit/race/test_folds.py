"""Folds share classes and images evenly, and depend on the labels and the seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glorasearch.race import fold_of, member_seed

LABELS = st.lists(st.integers(0, 5), min_size=8, max_size=60).map(lambda labels: np.array(labels, dtype=np.int64))


@given(labels=LABELS, folds=st.integers(2, 8), seed=st.integers(0, 2**31))
def test_folds_are_even_in_images_and_in_each_class(labels: np.ndarray, folds: int, seed: int) -> None:
    found = fold_of(labels, folds, seed)
    for part in (labels >= 0, *(labels == label for label in np.unique(labels))):
        sizes = np.bincount(found[part], minlength=folds)
        assert sizes.sum() == part.sum()
        assert sizes.max() - sizes.min() <= 1
    assert np.array_equal(found, fold_of(labels, folds, seed))


def test_another_seed_draws_other_folds() -> None:
    labels = np.arange(200) % 7
    assert not np.array_equal(fold_of(labels, 5, 0), fold_of(labels, 5, 1))


def test_fewer_images_than_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="3 different images cannot be shared among 4 folds"):
        fold_of(np.zeros(3, dtype=np.int64), 4, 0)


def test_seeds_of_trainings_differ_by_everything_that_they_depend_on() -> None:
    seeds = {member_seed(seed, key, part) for seed in range(3) for key in ("a", "b") for part in (0, 1, "teacher 0")}
    assert len(seeds) == 18
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert member_seed(3, "a", 1) == member_seed(3, "a", 1)


def without_copies(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """What folds have been since there are races: of a random order, sorted by label, the i-th is in fold i modulo."""
    order = np.random.default_rng([seed, 41]).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    found = np.empty(len(labels), dtype=np.int64)
    found[order] = np.arange(len(labels)) % folds
    return found


@given(labels=LABELS, folds=st.integers(2, 8), seed=st.integers(0, 2**31))
def test_folds_of_different_images_never_change(labels: np.ndarray, folds: int, seed: int) -> None:
    """They are a part of what a run is: its database, and results that are published, depend on them."""
    found = fold_of(labels, folds, seed, list(range(len(labels))))
    assert found.tolist() == without_copies(labels, folds, seed).tolist()
    assert found.tolist() == fold_of(labels, folds, seed).tolist()


@st.composite
def with_copies(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """Labels, and for each image the first one that is equal to it; equal images may have several labels."""
    contents = draw(st.lists(st.integers(0, 30), min_size=8, max_size=60))
    first = [contents.index(content) for content in contents]
    of_content = draw(st.lists(st.integers(0, 3), min_size=31, max_size=31))
    labels = np.array([of_content[content] for content in contents], dtype=np.int64)
    other = draw(st.lists(st.integers(0, len(labels) - 1), max_size=2))
    labels[other] = 4
    return labels, first


@given(images=with_copies(), folds=st.integers(2, 8), seed=st.integers(0, 2**31))
def test_copies_are_in_one_fold_and_no_fold_is_empty(
    images: tuple[np.ndarray, list[int]], folds: int, seed: int
) -> None:
    labels, first = images
    if len(set(first)) < folds:
        with pytest.raises(ValueError, match=f"{len(set(first))} different images cannot be shared among {folds}"):
            fold_of(labels, folds, seed, first)
        return
    found = fold_of(labels, folds, seed, first)
    assert found.tolist() == found[first].tolist()
    assert np.bincount(found, minlength=folds).min() > 0
    assert found.tolist() == fold_of(labels, folds, seed, first).tolist()


@given(labels=LABELS, folds=st.integers(2, 8), seed=st.integers(0, 2**31), pairs=st.integers(1, 8))
def test_with_pairs_no_fold_has_more_than_a_pair_more_of_a_class(
    labels: np.ndarray, folds: int, seed: int, pairs: int
) -> None:
    first = list(range(len(labels))) + list(range(pairs))
    labels = np.concatenate([labels, labels[:pairs]])
    found = fold_of(labels, folds, seed, first)
    for label in np.unique(labels):
        sizes = np.bincount(found[labels == label], minlength=folds)
        singles = sum(first.count(image) == 1 for image in np.flatnonzero(labels == label).tolist())
        assert sizes.max() - sizes.min() <= (1 if singles >= folds else 2)


@given(labels=LABELS, folds=st.integers(2, 8), seed=st.integers(0, 2**31))
def test_copies_in_a_class_change_nothing_of_the_classes_before_it(labels: np.ndarray, folds: int, seed: int) -> None:
    labels = np.concatenate([labels, [6] * 10])
    first = [*range(len(labels) - 1), len(labels) - 10]
    found, before = (
        each[:-10].tolist() for each in (fold_of(labels, folds, seed, first), fold_of(labels, folds, seed))
    )
    assert found == before
