"""What interrupted and killed attempts spent counts."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from suite_parts.spent import spending


class Clock:
    """A clock that is set, and says when it was read."""

    def __init__(self) -> None:
        self.now = 100.0
        self.read_again = threading.Event()

    def __call__(self) -> dict[str, float]:
        if threading.current_thread() is not threading.main_thread():
            self.read_again.set()
        return {"train": self.now}


def test_attempts_add_up_however_they_end(tmp_path: Path) -> None:
    path, clock = tmp_path / "unit" / "walls.json", Clock()

    def interrupted() -> None:
        with spending(path, clock):
            clock.now += 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert json.loads(path.read_text()) == {"train": 3.0}
    with spending(path, clock) as spent:
        assert spent() == {"train": 3.0}
        clock.now += 2
        assert spent() == {"train": 5.0}
    with spending(path, lambda: {"search": clock.now}):
        clock.now += 1
    assert json.loads(path.read_text()) == {"train": 5.0, "search": 1.0}


def test_an_attempt_is_kept_while_it_goes_on(tmp_path: Path) -> None:
    """So one that is killed loses a moment only."""
    path, clock = tmp_path / "walls.json", Clock()
    with spending(path, clock, keep_seconds=0.001):
        clock.now += 7
        for _ in range(2):  # the first reading may have been before, the second writes after it
            clock.read_again.clear()
            assert clock.read_again.wait(10)
        assert json.loads(path.read_text()) == {"train": 7.0}
