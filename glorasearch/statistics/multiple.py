"""Several tests at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """Each p adjusted for being one of several, in the given order (Holm 1979).

    Calling those below 5 % real is then wrong about any of them in at most 5 % of all such families of tests.
    """
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    adjusted, least = [0.0] * len(ps), 0.0
    for done, index in enumerate(order):
        least = max(least, min(1.0, (len(ps) - done) * ps[index]))
        adjusted[index] = least
    return tuple(adjusted)
