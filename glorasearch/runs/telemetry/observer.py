"""What is told of a run while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from glorasearch.db import StageState
    from glorasearch.search import SearchProgress


class Observer(Protocol):
    """Is told what a run does; it must not raise, and must not keep the run waiting."""

    def started(self, stage: str) -> None:
        """A stage, or a part of one, begins; parts lie within stages."""
        ...

    def advanced(self, stage: str, done: int, total: int) -> None:
        """Units done of those of the stage's present task."""
        ...

    def ended(self, stage: str, state: StageState, error: BaseException | None) -> None:
        """It ends; `error` is why, unless it has finished."""
        ...

    def searched(self, progress: SearchProgress) -> None:
        """A trial of the search has finished."""
        ...

    def staffed(self, ready: int, wanted: int) -> None:
        """Workers that evaluate, and how many there should be."""
        ...

    def close(self, state: str) -> None:
        """The run ends, `finished`, `stopped` or `failed`."""
        ...
