"""What was spent on something over several attempts, also on those that were interrupted or killed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from suite_parts.units import write_atomically

KEEP_SECONDS = 5.0
"""How much of an attempt is lost if it is killed."""
Spent = dict[str, float]


@contextmanager
def spending(
    path: Path, read: Callable[[], Mapping[str, float]], keep_seconds: float = KEEP_SECONDS
) -> Iterator[Callable[[], Spent]]:
    """Add what this attempt spends to what `path` holds of earlier ones; yields a function that gives the sums.

    Args:
        path: a JSON file, written while the attempt goes on and at its end, however that is.
        read: clocks by their names, such as `time.perf_counter`; what `path` holds besides them stays.
        keep_seconds: between two writings.
    """
    before: Spent = json.loads(path.read_text("utf-8")) if path.exists() else {}
    began, over = read(), threading.Event()

    def sums() -> Spent:
        return before | {name: before.get(name, 0.0) + now - began[name] for name, now in read().items()}

    def keep() -> None:
        while not over.wait(keep_seconds):
            with suppress(RuntimeError):  # a clock that is a sum over a dictionary, which grew meanwhile
                write_atomically(path, json.dumps(sums()))

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield sums
    finally:
        over.set()
        keeper.join()
        write_atomically(path, json.dumps(sums()))
