"""Listings fit 80 columns: score, state and age first, digests cut; JSON has all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from glorasearch.db import RunState, RunStore

Bench = Any
Call = Callable[..., tuple[int, str, str]]


def long_lines(text: str) -> list[str]:
    """Lines that are too long, but for those with a path, which is not broken."""
    return [line for line in text.splitlines() if len(line.rstrip()) > 80 and "/" not in line]


@pytest.fixture
def many(copied: Bench) -> Bench:
    """A workspace with a finished run and others, one of them of a long name."""
    record = copied.record
    for name in ("second", "a-run-with-a-name-that-is-longer-than-a-column-of-the-table"):
        store = RunStore(copied.database_url)
        store.create(name, record.config | {"name": name}, record.digest)
        for stage, result in record.stages.items():
            store.set_stage(name, stage, result)
        store.set_state(name, RunState.STOPPED)
    return copied


def test_listings_fit(many: Bench, call: Call) -> None:
    names = [run["run"] for run in json.loads(call("runs", *many.place, "--json")[1])]
    assert len(names) == 3

    listed = call("runs", *many.place)[1]
    assert listed.split()[:6] == ["run", "score,", "%", "state", "age", "stage"]
    (line,) = (line for line in listed.splitlines() if line.startswith("tiny "))
    test = many.report["winner"]["test_accuracy"]
    assert line.split()[1:3] == [f"{100 * test:.1f}", "finished"]
    shown, compared = call("show", "tiny", *many.place)[1], call("compare", *names, *many.place)[1]
    for text in (listed, shown, compared):
        assert long_lines(text) == []
        assert not re.search(r"[0-9a-f]{13}", text)
    assert shown.startswith(f"run tiny: finished, test accuracy {100 * test:.1f} %")
    heads = [line.split("│")[1].strip() for line in compared.splitlines() if line.startswith("│")]
    assert heads[:2] == ["test, %", "state"]
    full = json.loads(call("show", "tiny", *many.place, "--json")[1])
    assert len(full["stages"]["train"]["weights"]) == 64
