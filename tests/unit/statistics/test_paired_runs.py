"""Wilcoxon's test and Student's interval over pairs of runs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, ttest_1samp, wilcoxon

from glorasearch.statistics import PairedRuns, wilcoxon_p

hundredths = st.integers(-9, 9).map(lambda value: value / 100)


@given(st.lists(st.integers(-500, 500).filter(bool), min_size=1, max_size=25, unique_by=abs))
def test_without_ties_it_is_scipys_exact_test(values: list[int]) -> None:
    expected = wilcoxon(values, alternative="greater", method="exact").pvalue

    assert wilcoxon_p(values) == pytest.approx(expected, rel=1e-9)


@given(st.lists(hundredths, min_size=1, max_size=9))
def test_with_ties_and_zeros_it_counts_all_signs(values: list[float]) -> None:
    known = np.array([value for value in values if value])
    ranks = rankdata(np.abs(known))
    observed = ranks[known > 0].sum()
    signs = itertools.product((0, 1), repeat=len(known))
    reached = [float(np.dot(sign, ranks)) >= observed - 1e-9 for sign in signs]

    assert wilcoxon_p(values) == pytest.approx(sum(reached) / 2 ** len(known))


def test_by_hand() -> None:
    # Ranks 1, 2, 3 and only rank 1 negative: of the 8 sums 0, 1, 2, 3, 3, 4, 5, 6 two are at least 5.
    assert wilcoxon_p([-0.1, 0.2, 0.3]) == 2 / 8
    assert wilcoxon_p([0.1, 0.2, 0.3]) == 1 / 8
    assert wilcoxon_p([0.0, 0.0]) == wilcoxon_p([]) == 1.0


def test_rounding_makes_no_order() -> None:
    assert 0.3 - 0.2 != 0.2 - 0.1
    assert wilcoxon_p([0.3 - 0.2, -(0.2 - 0.1)]) == wilcoxon_p([0.1, -0.1]) == wilcoxon_p([-0.1, 0.1])


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12))
def test_both_directions_share_the_observed_one(values: list[float]) -> None:
    pairs = PairedRuns(tuple(values))

    assert pairs.least_p - 1e-12 <= pairs.p_better <= 1
    assert pairs.p_better + pairs.p_worse >= 1 - 1e-12


def test_the_interval_is_students() -> None:
    values = (0.011, -0.002, 0.007, 0.015)
    pairs = PairedRuns(values)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)

    assert (pairs.pairs, pairs.mean) == (4, pytest.approx(0.00775))
    assert pairs.interval == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert PairedRuns((0.3,)).interval is None
    assert pairs.least_p == 1 / 16


@pytest.mark.parametrize("values", [(), (0.1, math.nan), (math.inf,)])
def test_what_is_no_difference(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected at least one, and all of them finite"):
        PairedRuns(values)
