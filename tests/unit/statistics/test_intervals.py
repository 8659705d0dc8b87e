"""Intervals of proportions and means against SciPy, tau and Holm's adjustment."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, kendalltau
from scipy.stats import t as student

from glorasearch.statistics import holm, kendall_tau, mean_interval, student_quantile, student_within, wilson


@given(st.integers(1, 20_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilsons_interval_is_that_of_scipy(case: tuple[int, int]) -> None:
    correct, total = case
    expected = binomtest(correct, total).proportion_ci(0.95, method="wilson")

    low, high = wilson(correct, total)

    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= correct / total <= high <= 1 or pytest.approx(correct / total) in (low, high)
    assert low < high


def test_wilsons_interval_by_hand() -> None:
    # 8 of 10 and z = 2: middle (0.8 + 0.2) / 1.4, half 2·√(0.016 + 0.01) / 1.4
    assert wilson(8, 10, z=2) == pytest.approx((0.48394, 0.94464), abs=1e-5)


@pytest.mark.parametrize(("correct", "total"), [(1, 0), (0, 0), (3, 2), (-1, 2)])
def test_what_is_not_a_proportion(correct: int, total: int) -> None:
    with pytest.raises(ValueError, match="is not a proportion"):
        wilson(correct, total)


@given(st.floats(0, 50), st.integers(1, 60))
def test_students_distribution_is_that_of_scipy(value: float, freedom: int) -> None:
    # SciPy's own distribution function is exact to some 1e-9 only next to 0.
    assert student_within(value, freedom) == pytest.approx(2 * student.cdf(value, freedom) - 1, abs=1e-7)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 17, 40])
def test_students_quantile_is_that_of_scipy(level: float, freedom: int) -> None:
    assert student_quantile(level, freedom) == pytest.approx(student.ppf((1 + level) / 2, freedom), rel=1e-10)


def test_what_has_no_interval() -> None:
    assert mean_interval([0.5]) is None
    with pytest.raises(ValueError, match="a mean needs values"):
        mean_interval([])
    with pytest.raises(ValueError, match="level 1 is not between"):
        student_quantile(1, 3)
    with pytest.raises(ValueError, match="0 degrees of freedom"):
        student_within(1.0, 0)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=30))
def test_tau_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    first, second = [one for one, _ in pairs], [two for _, two in pairs]
    found = kendall_tau(first, second)

    if len(set(first)) == 1 or len(set(second)) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(kendalltau(first, second).statistic, abs=1e-12)


def test_tau_by_hand() -> None:
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)  # five pairs alike, one in reverse
    with pytest.raises(ValueError, match="2 and 1 scores"):
        kendall_tau([1, 2], [1])


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.04: times 3, 2 and 1, never falling
    assert holm([0.04, 0.01, 0.02]) == pytest.approx((0.04, 0.03, 0.04))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), max_size=8))
def test_adjusted_ps_keep_their_order_and_lie_within_bonferronis(ps: list[float]) -> None:
    found = holm(ps)

    for p, adjusted in zip(ps, found, strict=True):
        assert p <= adjusted <= min(1.0, len(ps) * p) + 1e-12
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    assert [found[index] for index in order] == sorted(found)
