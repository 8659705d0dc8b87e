"""McNemar's exact test and Tango's interval, against SciPy and against the likelihood itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

from glorasearch.statistics import LEVEL, PairedImages, mcnemar_p
from glorasearch.statistics.paired_images import score_interval

counts = st.integers(0, 400)


@given(counts, counts)
def test_the_exact_test_is_a_binomial_one(only_first: int, only_second: int) -> None:
    p = mcnemar_p(only_first, only_second)

    assert p == mcnemar_p(only_second, only_first)
    if only_first + only_second:
        assert p == pytest.approx(binomtest(only_first, only_first + only_second).pvalue, rel=1e-9)
    else:
        assert p == 1.0


def test_by_hand() -> None:
    # 12 discordant images, 2 of them against the trend: 2 (1 + 12 + 66) / 4096
    pair = PairedImages(images=100, both=60, only_first=10, only_second=2)

    assert pair.p == 158 / 4096
    assert (pair.discordant, pair.difference) == (12, 0.08)
    assert PairedImages(images=100, both=60, only_first=6, only_second=6).p == 1.0


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 500))
def test_the_interval_agrees_with_the_test(only_first: int, only_second: int, both: int) -> None:
    images = only_first + only_second + both + 1
    pair = PairedImages(images=images, both=both, only_first=only_first, only_second=only_second)
    low, high = pair.interval
    scored = score_interval(only_first, only_second, images)

    if pair.p >= LEVEL:
        assert low <= 0 <= high
        assert (low, high) == (min(scored[0], 0), max(scored[1], 0))
    else:
        assert low > 0 or high < 0
        assert (low, high) == scored


@pytest.mark.parametrize("counts", [(3, 2, 1, 1), (3, -1, 1, 1), (3, 1, -1, 1), (0, 1, 0, 0)])
def test_counts_that_do_not_add_up(counts: tuple[int, int, int, int]) -> None:
    images, both, only_first, only_second = counts
    with pytest.raises(ValueError, match="does not count"):
        PairedImages(images=images, both=both, only_first=only_first, only_second=only_second)
    with pytest.raises(ValueError, match="no counts"):
        mcnemar_p(-1, 2)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_the_interval_contains_the_difference_and_mirrors(only_first: int, only_second: int, rest: int) -> None:
    images = only_first + only_second + rest
    if not images:
        with pytest.raises(ValueError, match="needs images"):
            score_interval(only_first, only_second, images)
        return
    low, high = score_interval(only_first, only_second, images)
    mirrored = score_interval(only_second, only_first, images)

    assert -1 <= low <= (only_first - only_second) / images <= high <= 1
    assert low < high
    assert (low, high) == pytest.approx((-mirrored[1], -mirrored[0]), abs=1e-12)


@pytest.mark.parametrize("case", [(10, 2, 100), (7, 0, 40), (31, 12, 797), (1, 3, 30), (55, 60, 500)])
def test_at_its_ends_the_score_is_the_quantile(case: tuple[int, int, int]) -> None:
    only_first, only_second, images = case
    agree = images - only_first - only_second

    for end in score_interval(*case):
        # The constrained maximum of the likelihood, found numerically: shares q + d and q of discordant images.
        def loss(q: float, d: float = end) -> float:
            shares = (q + d, q, 1 - 2 * q - d)
            terms = zip((only_first, only_second, agree), shares, strict=True)
            return -sum(n * math.log(max(share, 1e-300)) for n, share in terms if n)

        bounds = (max(0.0, -end), (1 - end) / 2)
        q = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        variance = images * (2 * q + end - end * end)
        score = (only_first - only_second - images * end) / math.sqrt(variance)
        assert abs(score) == pytest.approx(1.959964, abs=1e-3)


def test_without_discordant_images_the_interval_is_not_empty() -> None:
    low, high = score_interval(0, 0, 100)

    # z² / (n + z²), as in Wilson's interval of 0 of n
    assert (low, high) == pytest.approx((-0.036993, 0.036993), abs=1e-6)
