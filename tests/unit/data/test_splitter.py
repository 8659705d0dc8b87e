from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glorasearch.data import stratified_split


@st.composite
def labels_and_sizes(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    counts = draw(st.lists(st.integers(0, 30), min_size=1, max_size=12))
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    labels = labels[np.random.default_rng(draw(st.integers(0, 99))).permutation(len(labels))]
    cuts = sorted(draw(st.lists(st.integers(0, len(labels)), min_size=1, max_size=3)))
    sizes = [int(size) for size in np.diff([0, *cuts])]
    return labels, sizes


@settings(max_examples=300, deadline=None)
@given(labels_and_sizes(), st.integers(0, 1000))
def test_sets_are_disjoint_and_of_exact_size(case: tuple[np.ndarray, list[int]], seed: int) -> None:
    labels, sizes = case
    parts = stratified_split(labels, sizes, np.random.default_rng(seed))
    assert [len(part) for part in parts] == sizes
    together = np.concatenate(parts)
    assert len(set(together.tolist())) == sum(sizes)
    assert all(0 <= index < len(labels) for index in together)
    assert all((np.diff(part) > 0).all() for part in parts)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(3, 40), min_size=1, max_size=12), st.data())
def test_every_class_is_in_every_set_that_has_room(counts: list[int], data: st.DataObject) -> None:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    classes, total = len(counts), len(labels)
    first = data.draw(st.integers(classes, total - 2 * classes))
    second = data.draw(st.integers(classes, total - first - classes))
    third = data.draw(st.integers(classes, total - first - second))
    for part in stratified_split(labels, [first, second, third], np.random.default_rng(0)):
        assert set(labels[part].tolist()) == set(range(classes))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=2, max_size=8), st.data())
def test_a_rare_class_goes_to_the_first_set(counts: list[int], data: st.DataObject) -> None:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    first = data.draw(st.integers(len(counts), len(labels)))
    (part, _) = stratified_split(labels, [first, len(labels) - first], np.random.default_rng(0))
    assert set(labels[part].tolist()) == set(range(len(counts)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(10, 60), min_size=2, max_size=8), st.floats(0.2, 0.8), st.integers(0, 50))
def test_one_set_has_each_class_in_proportion(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    size = round(fraction * len(labels))
    (part,) = stratified_split(labels, [size], np.random.default_rng(seed))
    taken = np.bincount(labels[part], minlength=len(counts))
    assert (abs(taken - size * np.array(counts) / len(labels)) < 1).all()


def test_the_seed_decides() -> None:
    labels = np.repeat(np.arange(5), 20).astype(np.int64)
    draw = [stratified_split(labels, [50, 20], np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert all((a == b).all() for a, b in zip(draw[0], draw[1], strict=True))
    assert any((a != b).any() for a, b in zip(draw[0], draw[2], strict=True))


@pytest.mark.parametrize("sizes", [[7, 4], [-1, 2]])
def test_impossible_sizes_are_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="10 images"):
        stratified_split(np.zeros(10, np.int64), sizes, np.random.default_rng(0))
