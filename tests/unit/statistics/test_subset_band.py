"""Bands of random sets against the hypergeometric distribution, and how often a random set leaves any of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from glorasearch.statistics.subset_band import subset_band


@pytest.mark.parametrize(("items", "those", "kept"), [(200, 60, 10), (1_000, 15, 10), (40, 20, 12)])
def test_one_feature_has_the_hypergeometric_band(items: int, those: int, kept: int) -> None:
    features = (np.arange(items) < those).astype(float)[:, None]
    low, high, draws = subset_band(features, kept)
    law = hypergeom(items, those, kept)
    assert draws == 799
    assert law.sf(round(high[0] * kept)) <= 0.025 + 0.02 < law.sf(round(high[0] * kept) - 2) + 0.02
    assert law.cdf(round(low[0] * kept) - 1) <= 0.025 + 0.02
    many = subset_band(features, kept, level=0.001)
    assert many[0][0] <= law.ppf(0.0005) / kept + 1 / kept
    assert abs(many[1][0] * kept - law.ppf(0.9995)) <= 1


@pytest.mark.parametrize("bred", [False, True])
def test_some_feature_of_a_random_set_is_outside_as_often_as_said(bred: bool) -> None:
    """300 items of 5 x 9 counts over 48 genes; bred from each other, so that items and features depend on others."""
    rng = np.random.default_rng(1)
    genes = rng.integers(0, 9, (300, 5, 48))
    for item in range(20, 300) if bred else ():
        one, other = rng.integers(0, item, 2)
        kept = rng.random((5, 48)) < 0.1
        genes[item][~kept] = np.where(rng.random((5, 48)) < 0.5, genes[one], genes[other])[~kept]
    features = np.stack([(genes[:, row] == choice).sum(1) for row in range(5) for choice in range(9)], 1).astype(float)
    low, high, draws = subset_band(features, 10)
    assert draws == 35_999
    random = np.stack([features[rng.choice(300, 10, replace=False)].mean(0) for _ in range(4_000)])
    outside = ((random < low) | (random > high)).any(1).mean()
    assert 0.02 < outside < 0.055  # 5 % less what is lost to whole numbers; 4,000 draws: +- 0.7 points
    best = np.argsort(-features[:, 4])[:10]
    assert features[best, 4].mean() > high[4]
