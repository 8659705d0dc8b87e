"""Decompositions are computed once for each content."""

from __future__ import annotations

import pytest
import torch

from glorasearch.choices import directions
from glorasearch.choices.directions import _Decompositions, task_directions


def test_one_content_is_decomposed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = _Decompositions()
    monkeypatch.setattr(directions, "_CACHE", cache)
    base = torch.randn(12, 5, dtype=torch.float64)
    down, up = torch.randn(12, 2, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    first = task_directions(base, down, up, 4, stacked=3)
    again = task_directions(base.clone(), down, up, 4, stacked=3)
    assert cache.made == 3
    assert torch.equal(first.left, again.left)
    changed = base.clone()
    changed[0, 0] += 1
    task_directions(changed, down, up, 4, stacked=3)
    assert cache.made == 4, "two of its thirds are known"


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = _Decompositions()
    size = sum(part.nbytes for part in cache.decomposed(torch.randn(6, 6)))
    monkeypatch.setattr(directions, "CACHE_BYTES", 3 * size)
    for _ in range(5):
        cache.decomposed(torch.randn(6, 6))
    assert (len(cache._known), cache._bytes) == (3, 3 * size)
