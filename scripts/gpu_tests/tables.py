"""What is printed at the end, and written as JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_tests.record import GOOD, UNKNOWN, Verdict

COLUMNS = ("passed", "failed", "died", "skipped", "cut off", "not reached")


def lines(found: Sequence[Verdict], seconds: float, cards: Sequence[str]) -> Iterator[str]:
    """A row for each file, one for all, and then every test that has not passed, with the end of what it said."""
    files = {one.file: [] for one in found} | {"all": list(found)}  # type: dict[str, list[Verdict]]
    for one in found:
        files[one.file].append(one)
    width = max(len(file) for file in files)
    heads = ("file", *COLUMNS, "seconds")
    yield " | ".join((f"{heads[0]:<{width}}", *heads[1:]))
    yield "-|-".join(("-" * width, *("-" * len(head) for head in heads[1:])))
    for file, tests in files.items():
        counts = Counter(test.verdict for test in tests)
        took = sum(test.seconds or 0.0 for test in tests)
        cells = [f"{counts[column] or '':>{len(column)}}" for column in COLUMNS] + [f"{took:7.1f}"]
        yield " | ".join((f"{file:<{width}}", *cells))
    for one in found:
        if one.verdict != "passed":
            last = one.message.strip().rpartition("\n")[2]
            yield f"{one.verdict}: {one.test}" + (f": {last}" if last else "")
    known = sum(one.verdict in GOOD for one in found)
    where = f"in {seconds:.0f} s on {_words(cards)}"
    yield f"{known} of {len(found)} tests passed or said why they do not run here, {where}"


def to_json(
    found: Sequence[Verdict],
    seconds: float,
    cards: Sequence[str],
    earlier: Mapping[str, Any] | None = None,
    *,
    gpu: str | None = None,
    some: bool = False,
) -> dict[str, Any]:
    """All verdicts, and where they were given, on cards called `gpu`.

    A test without a verdict has that of the `earlier` run which gave one, with its date and GPU. If this is a run of
    `some` files, so have those of the others.
    """
    known: dict[str, dict[str, Any]] = {}
    if earlier is not None:
        whence = {"date": earlier["date"], "gpu": earlier["machine"]["gpu"]}
        known = {test["test"]: whence | test for test in earlier["tests"] if test["verdict"] not in UNKNOWN}
    tests = [known[one.test] if one.verdict in UNKNOWN and one.test in known else one.to_dict() for one in found]
    files = {one.file for one in found}
    others = [test for name, test in known.items() if name.partition("::")[0] not in files] if some else []
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {
            "cards": list(cards),
            "gpu": gpu,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "seconds": round(seconds, 1),
        "tests": [*tests, *others],
    }


def write(path: Path, content: Any) -> None:
    """Write JSON, at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    part.replace(path)


def _words(cards: Sequence[str]) -> str:
    return f"card {cards[0]}" if len(cards) == 1 else f"cards {', '.join(cards)}"
