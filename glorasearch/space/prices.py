"""What every choice of every gene costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glorasearch.space.reachable import Price
from glorasearch.space.subnet import GeneKey

Prices = dict[GeneKey, dict[str, Price]]


def expected_shared(rows: Sequence[Mapping[str, Price]]) -> float:
    """What groups share on average: of each the largest of its members' choices, sampled independently."""
    below: dict[str, dict[int, float]] = {}
    levels: dict[str, set[int]] = {}
    for prices in rows:
        for price in prices.values():
            levels.setdefault(price.group, {0}).add(price.shared)
    for group in filter(None, levels):
        chances = below[group] = dict.fromkeys(sorted(levels[group]), 1.0)
        for prices in rows:
            for level in chances:
                within = sum(price.group != group or price.shared <= level for price in prices.values())
                chances[level] *= within / len(prices)
    return sum(
        level * (chance - previous)
        for chances in below.values()
        for (level, chance), previous in zip(chances.items(), [0.0, *chances.values()], strict=False)
    )
