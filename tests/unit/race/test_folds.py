"""Folds share classes and images evenly, and depend on the labels and the seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glorasearch.race import copies_apart, fold_of, member_seed

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
    with pytest.raises(ValueError, match="3 images cannot be shared among 4 folds"):
        fold_of(np.zeros(3, dtype=np.int64), 4, 0)


def test_seeds_of_trainings_differ_by_everything_that_they_depend_on() -> None:
    seeds = {member_seed(seed, key, part) for seed in range(3) for key in ("a", "b") for part in (0, 1, "teacher 0")}
    assert len(seeds) == 18
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert member_seed(3, "a", 1) == member_seed(3, "a", 1)


def test_copies_in_several_folds_are_counted() -> None:
    folds = np.array([0, 1, 0, 1, 1, 0])
    assert copies_apart([0, 1, 2, 3, 4, 5], folds) == 0
    assert copies_apart([0, 1, 0, 3, 3, 5], folds) == 0
    assert copies_apart([0, 0, 0, 3, 3, 3], folds) == 6
