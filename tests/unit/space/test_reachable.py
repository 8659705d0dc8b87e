"""Reachable parameter counts, against all sums written out."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from glorasearch.space.reachable import Price, ReachableCounts

ROWS = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=4).map(tuple), max_size=5)
LIMITS = st.tuples(st.integers(0, 60), st.one_of(st.none(), st.integers(0, 60)))


def sums(rows: list[tuple[int, ...]]) -> set[int]:
    return {sum(costs) for costs in itertools.product(*rows)}


def within(counts: set[int], least: int, most: int | None) -> bool:
    return any(least <= count and (most is None or count <= most) for count in counts)


@given(ROWS, LIMITS)
def test_any_within_and_nearest(rows: list[tuple[int, ...]], limits: tuple[int, int | None]) -> None:
    least, most = limits
    counts, reachable = sums(rows), ReachableCounts([tuple(map(Price, row)) for row in rows])
    assert reachable.largest == max(counts)
    assert reachable.any_within(least, most) == within(counts, least, most)
    below = [max(count for count in counts if count < least)] if min(counts) < least else []
    above = [] if most is None or max(counts) <= most else [min(count for count in counts if count > most)]
    assert reachable.nearest(least, most) == below + above


@given(ROWS.filter(bool), st.data())
def test_options(rows: list[tuple[int, ...]], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(rows) - 1))
    spent = data.draw(st.integers(0, 40))
    least, most = data.draw(LIMITS)
    rest = sums(rows[index + 1 :])
    expected = [
        position
        for position, cost in enumerate(rows[index])
        if within({spent + cost + further for further in rest}, least, most)
    ]
    assert ReachableCounts([tuple(map(Price, row)) for row in rows]).options(index, spent, least, most) == expected


@given(ROWS.filter(bool), st.sampled_from([99_999_999_999, 2**64, 2**400]))
def test_limits_of_any_size_cost_nothing(rows: list[tuple[int, ...]], huge: int) -> None:
    """A bit set as wide as the limit would take 12 GB for the first of these, and no machine holds the others."""
    reachable = ReachableCounts([tuple(map(Price, row)) for row in rows])
    assert reachable.any_within(0, huge)
    assert not reachable.any_within(huge, None)
    assert not reachable.any_within(huge, 2 * huge)
    assert reachable.nearest(huge, 2 * huge) == [reachable.largest]
    assert reachable.nearest(0, huge) == []
    assert reachable.options(0, 0, 0, huge) == list(range(len(rows[0])))
    assert reachable.options(0, 0, huge, 2 * huge) == []
