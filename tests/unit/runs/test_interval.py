"""Wilson's interval against another implementation, and where the textbook one fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from glorasearch.runs.interval import wilson


@given(st.integers(1, 20_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_as_scipy_has_it(case: tuple[int, int]) -> None:
    correct, total = case
    expected = binomtest(correct, total).proportion_ci(0.95, method="wilson")

    low, high = wilson(correct, total)

    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= correct / total <= high <= 1 or pytest.approx(correct / total) in (low, high)
    assert low < high


def test_by_hand() -> None:
    # 8 of 10 and z = 2: middle (0.8 + 0.2) / 1.4, half 2·√(0.016 + 0.01) / 1.4
    assert wilson(8, 10, z=2) == pytest.approx((0.48394, 0.94464), abs=1e-5)


@pytest.mark.parametrize(("correct", "total"), [(1, 0), (0, 0), (3, 2), (-1, 2)])
def test_what_is_not_a_proportion(correct: int, total: int) -> None:
    with pytest.raises(ValueError, match="is not a proportion"):
        wilson(correct, total)
