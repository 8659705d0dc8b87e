"""What the best of random draws has by chance, against simulation and against the exact expectation."""

from __future__ import annotations

import math
import statistics
from statistics import NormalDist

import numpy as np
import pytest
from scipy.integrate import quad

from glorasearch.statistics import best_by_chance


def normal_scores(count: int) -> list[float]:
    """Scores whose mean is 10 and whose sample standard deviation is 2."""
    values = [NormalDist().inv_cdf((index + 0.5) / count) for index in range(count)]
    spread = statistics.stdev(values)
    return [10 + 2 * value / spread for value in values]


@pytest.mark.parametrize("draws", [1, 10, 200, 5_000])
def test_of_many_scores_it_is_the_expectation_of_the_maximum(draws: int) -> None:
    phi = NormalDist()
    expected, _ = quad(lambda x: x * draws * phi.cdf(x) ** (draws - 1) * phi.pdf(x), -9, 9, limit=500)

    found = best_by_chance(normal_scores(2_000), draws, 10.0)

    assert (found.mean, found.std) == (pytest.approx(10), pytest.approx(2))
    assert found.expected == pytest.approx(10 + 2 * expected, abs=0.05)


def test_the_band_holds_what_it_promises_though_few_scores_are_known() -> None:
    rng, within, reached = np.random.default_rng(0), 0, []
    for _ in range(400):
        best = rng.normal(-3, 0.5, 100).max()
        found = best_by_chance(rng.normal(-3, 0.5, 10).tolist(), 100, best)
        within += found.low <= best <= found.high
        reached.append(found.p)
    assert 0.92 <= within / 400 <= 0.98  # three standard errors about 95 %
    assert np.mean(np.array(reached) < 0.05) == pytest.approx(0.05, abs=0.033)


def test_lower_is_better_mirrors() -> None:
    scores = normal_scores(16)
    up = best_by_chance(scores, 50, 15.0)
    down = best_by_chance([-score for score in scores], 50, -15.0, lower_is_better=True)

    assert (down.expected, down.low, down.high) == pytest.approx((-up.expected, -up.high, -up.low))
    assert down.p == up.p


def test_more_draws_promise_more_and_a_better_find_is_rarer() -> None:
    scores = normal_scores(32)
    few, many = best_by_chance(scores, 10, 14.0), best_by_chance(scores, 1_000, 14.0)

    assert few.expected < many.expected
    assert few.p < many.p
    assert best_by_chance(scores, 10, 30.0).p == pytest.approx(1 / 20_001)
    assert best_by_chance(scores, 10, 0.0).p == 1.0


def test_no_score_is_better_than_the_best_possible() -> None:
    scores = [0.9 + 0.02 * (index % 5) for index in range(20)]
    found = best_by_chance(scores, 10_000, 1.0, limit=1.0)

    assert found.high <= 1.0
    assert found.p > 0.05  # a perfect accuracy is nothing that chance would not reach


@pytest.mark.parametrize("lower", [True, False])
def test_the_best_of_skewed_draws_is_seldom_called_worse(lower: bool) -> None:
    """The band alone calls it so in many cases; what is far behind is still called worse."""
    rng, worse, beyond, behind = np.random.default_rng(0), 0, 0, 0
    sign = 1 if lower else -1
    for _ in range(600):
        known, drawn = np.exp(rng.normal(0, 0.6, 32)), np.exp(rng.normal(0, 0.6, 300))
        best = best_by_chance((sign * known).tolist(), 300, sign * drawn.min(), lower_is_better=lower)
        worse += best.worse
        beyond += not best.low <= sign * drawn.min() <= best.high
        behind += best_by_chance((sign * known).tolist(), 300, sign * np.median(known), lower_is_better=lower).worse
    assert worse / 600 < 0.045  # three standard errors above 2.5 %
    assert beyond / 600 > 0.3
    assert behind == 600


def test_it_is_the_same_every_time() -> None:
    assert best_by_chance(normal_scores(9), 77, 12.0) == best_by_chance(normal_scores(9), 77, 12.0)


@pytest.mark.parametrize(("scores", "draws"), [([1.0] * 7, 3), ([1.0] * 8, 0), ([1.0] * 8 + [math.nan], 3)])
def test_what_says_nothing_of_chance(scores: list[float], draws: int) -> None:
    with pytest.raises(ValueError, match="expected 8 finite scores and a draw"):
        best_by_chance(scores, draws, 1.0)
