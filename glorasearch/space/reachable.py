"""Which parameter counts a space can reach: a subset-sum over its genes, with integers as bit sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple


class Price(NamedTuple):
    """Parameters of a choice: its own, and those shared by its group, which counts only the largest of its choices."""

    own: int
    group: str = ""
    shared: int = 0


State = tuple[int, ...]
"""For every group, the parameters of its largest choice so far."""


class ReachableCounts:
    """The set of totals that one price from each row can have.

    It takes a shift and an OR of a Python integer for each price and each state of the groups: for the 240 genes of a
    ViT-B/16 (up to 1.3 million parameters) without groups some tens of milliseconds, so a budget is checked exactly and
    not by its limits alone. A group is part of the state from its first row to its last one only; then its parameters
    are added to the total, so that consecutive groups (one for each block, say) do not multiply the states.
    """

    def __init__(self, rows: Sequence[Sequence[Price]]) -> None:
        self._rows = [tuple(row) for row in rows]
        groups = dict.fromkeys(price.group for row in self._rows for price in row if price.group)
        self._groups = {group: index for index, group in enumerate(groups)}
        self._last = [0] * len(groups)
        for number, row in enumerate(self._rows):
            for price in row:
                if price.group:
                    self._last[self._groups[price.group]] = number

    @property
    def start(self) -> State:
        """Before the first row."""
        return (0,) * len(self._groups)

    def after(self, state: State, price: Price) -> State:
        """The state after a row's choice."""
        if not price.group:
            return state
        index = self._groups[price.group]
        if state[index] >= price.shared:
            return state
        return (*state[:index], price.shared, *state[index + 1 :])

    def _close(self, state: State, row: int) -> tuple[int, State]:
        """Parameters of the groups that end before this row, and the state without them."""
        if not any(state):
            return 0, state
        kept = tuple(cost if last >= row else 0 for cost, last in zip(state, self._last, strict=True))
        return sum(state) - sum(kept), kept

    @cached_property
    def _forward(self) -> dict[State, int]:
        """State after all rows → bit set of the totals without it."""
        sums: dict[State, int] = {self.start: 1}
        for number, row in enumerate(self._rows, start=1):
            following: dict[State, int] = {}
            for state, current in sums.items():
                for price in set(row):
                    closed, target = self._close(self.after(state, price), number)
                    following[target] = following.get(target, 0) | current << (price.own + closed)
            sums = following
        return sums

    @cached_property
    def _all(self) -> int:
        """Bit n: the rows can sum to n."""
        total = 0
        for state, sums in self._forward.items():
            total |= sums << sum(state)
        return total

    @cached_property
    def _suffix(self) -> list[dict[State, int]]:
        """For every row, by the state before it: bit n if this row and those after it can add n to the total."""
        before = self._states()
        suffix = [{state: 1 << sum(state) for state in before[-1]}]
        for number in reversed(range(len(self._rows))):
            sums: dict[State, int] = {}
            for state in before[number]:
                reached = 0
                for price in set(self._rows[number]):
                    closed, target = self._close(self.after(state, price), number + 1)
                    reached |= suffix[-1][target] << (price.own + closed)
                sums[state] = reached
            suffix.append(sums)
        suffix.reverse()
        return suffix

    def _states(self) -> list[Iterable[State]]:
        """The possible states before each row, and after the last one."""
        found: list[Iterable[State]] = [{self.start}]
        for number, row in enumerate(self._rows, start=1):
            found.append({self._close(self.after(state, price), number)[1] for state in found[-1] for price in row})
        return found

    @property
    def smallest(self) -> int:
        """The smallest total."""
        return (self._all & -self._all).bit_length() - 1

    @property
    def largest(self) -> int:
        """The largest total."""
        return self._all.bit_length() - 1

    def any_within(self, least: int, most: int | None) -> bool:
        """Whether a total lies in [least, most]."""
        return _any_within(self._all, least, most)

    def nearest(self, least: int, most: int | None) -> list[int]:
        """The largest total below `least` and the smallest above `most`, as far as they exist."""
        found: list[int] = []
        if least > 0:
            below = (self._all & ((1 << min(least, self._all.bit_length())) - 1)).bit_length() - 1
            found += [below] if below >= 0 else []
        if most is not None and most < self.largest and (above := self._all >> (most + 1)):
            found.append(most + 1 + (above & -above).bit_length() - 1)
        return found

    def options(self, index: int, spent: int, least: int, most: int | None, state: State = ()) -> list[int]:
        """Positions in row `index` from which a total in [least, most] can still be reached.

        `spent` is the total of the rows before it without the groups of `state`.
        """
        found: list[int] = []
        for position, price in enumerate(self._rows[index]):
            closed, target = self._close(self.after(state or self.start, price), index + 1)
            total = spent + price.own + closed
            if most is not None and total > most:
                continue
            rest = self._suffix[index + 1][target]
            if _any_within(rest, max(0, least - total), None if most is None else most - total):
                found.append(position)
        return found


def _any_within(sums: int, least: int, most: int | None) -> bool:
    """Whether a set bit lies in [least, most]; limits beyond the bits, however large, cost nothing."""
    length = sums.bit_length()
    if least >= length:
        return False
    shifted = sums >> least
    if most is None or most >= length:
        return shifted != 0
    return most >= least and shifted & ((1 << (most - least + 1)) - 1) != 0
