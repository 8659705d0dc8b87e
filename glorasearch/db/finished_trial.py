"""Finished trials in little memory: parameters are packed, and decoded on demand."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

PackedParams = bytes | tuple[float, ...]
"""Internal values in the order of a layout: bytes if all of them are indices of choices below 256."""

DECODED: Final = 1_024
"""Decoded parameters that a layout caches; some 10 KB each for 240 genes."""


class Layout:
    """The names and distributions that trials have in common."""

    def __init__(self, distributions: dict[str, BaseDistribution]) -> None:
        self.distributions = distributions
        """Shared by all trials; must not be modified."""
        self.names = list(distributions)
        self._choices = [one.choices for one in distributions.values() if isinstance(one, CategoricalDistribution)]
        self.params = lru_cache(maxsize=DECODED)(self.decode)
        """`decode` with a cache; the results are shared and must not be modified."""

    def decode(self, packed: PackedParams) -> dict[str, Any]:
        """Packed values → parameters with external values."""
        if len(self._choices) == len(self.names) and isinstance(packed, bytes):
            return {name: of[index] for name, of, index in zip(self.names, self._choices, packed, strict=True)}
        pairs = zip(self.distributions.items(), packed, strict=True)
        return {name: distribution.to_external_repr(value) for (name, distribution), value in pairs}

    @staticmethod
    def pack(values: Iterable[float]) -> PackedParams:
        """Internal values → their most compact form."""
        found = tuple(values)
        indices = [value for value in found if type(value) is int and 0 <= value < 256]
        return bytes(indices) if len(indices) == len(found) else found


class FinishedTrial(FrozenTrial):
    """Equal to the plain `FrozenTrial`, copied and pickled as one, and a tenth of its size.

    Its parameters cannot be set; a copy of it is a plain trial, whose parameters can.
    """

    def __init__(self, trial: FrozenTrial, layout: Layout, packed: PackedParams) -> None:
        """Takes everything from a trial but its parameters and their distributions."""
        self._number = trial.number
        self.state = trial.state
        self._values = trial.values
        self._datetime_start = trial.datetime_start
        self.datetime_complete = trial.datetime_complete
        self._user_attrs = trial.user_attrs
        self._system_attrs = trial.system_attrs
        self.intermediate_values = trial.intermediate_values
        self._trial_id = trial._trial_id
        self._layout = layout
        self._packed = packed

    @property
    def _params(self) -> dict[str, Any]:
        return self._layout.params(self._packed)

    @_params.setter
    def _params(self, params: dict[str, Any]) -> None:
        raise self._fixed()

    @property
    def _distributions(self) -> dict[str, BaseDistribution]:
        return self._layout.distributions

    @_distributions.setter
    def _distributions(self, distributions: dict[str, BaseDistribution]) -> None:
        raise self._fixed()

    def _fixed(self) -> AttributeError:
        return AttributeError(f"trial {self.number} has finished, so its parameters cannot be set; change a copy of it")

    def plain(self) -> FrozenTrial:
        """A plain trial with the same contents; mutable parts are shared."""
        return _plain(*self.__reduce__()[1])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FrozenTrial):
            return NotImplemented
        return self.plain() == (other.plain() if isinstance(other, FinishedTrial) else other)

    __hash__ = FrozenTrial.__hash__

    def __repr__(self) -> str:
        return repr(self.plain())

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _plain, (
            self.number,
            self.state,
            self.values,
            self.datetime_start,
            self.datetime_complete,
            self.params,
            self.distributions,
            self.user_attrs,
            self.system_attrs,
            self.intermediate_values,
            self._trial_id,
        )


def _plain(number: int, state: TrialState, values: list[float] | None, *others: Any) -> FrozenTrial:
    return FrozenTrial(number, state, None, *others, values=values)
