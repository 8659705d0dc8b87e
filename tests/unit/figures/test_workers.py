"""The map of workers, of rows as drivers on several hosts write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from glorasearch.db import RunState, RunStore, WorkerRecord, WorkerStore
from glorasearch.figures import RunFacts, draw, figures_of

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def worker(number: int, host: str, **changes: object) -> WorkerRecord:
    known = {"process": 7, "ready": True, "tasks": 1_500, "busy": 15.0, "since": BEGAN}
    return WorkerRecord(number=number, host=host, **known | {"updated": BEGAN + timedelta(seconds=20)} | changes)  # type: ignore[arg-type]


@pytest.fixture
def runs(tmp_path: Path) -> RunStore:
    found = RunStore(f"sqlite:///{tmp_path}/runs.db")
    found.create("run", {}, "")
    found.set_state("run", RunState.STOPPED)
    return found


def test_every_worker_has_a_cell_at_its_host(runs: RunStore) -> None:
    staff = [worker(number, f"gpu{number % 12 // 9 * 10 + 2}") for number in range(12)]
    staff += [
        worker(12, "gpu10", ready=False, process=0, tasks=3, busy=1.0),
        worker(13, "", ready=False, tasks=0, busy=0),
    ]
    WorkerStore(runs.database).record("run", staff)
    figure = next(one for one in figures_of(RunFacts.read(runs.database, "run")) if one.key == "workers")
    cells = {one["worker"]: one for one in figure.spec["data"]["values"]}
    assert len(cells) == 14
    assert list(dict.fromkeys(one["row"] for one in cells.values())) == [
        "gpu2", "gpu2, from 9", "gpu10", "gpu12", "no place yet"
    ]  # fmt: skip
    assert {(one["row"], one["column"]) for one in cells.values() if one["host"] == "gpu2"} == {
        *(("gpu2", str(place)) for place in range(1, 9)), ("gpu2, from 9", "1")
    }  # fmt: skip
    assert (cells[0]["share"], cells[0]["above"], cells[0]["below"]) == (0.75, "75%", "1,500")
    assert (cells[12]["state"], cells[12]["host"], cells[12]["above"]) == ("lost", "gpu10", "lost")
    assert (cells[13]["state"], cells[13]["above"], cells[13]["below"]) == ("waits", "waits", "0")
    assert "12 of 14 workers took tasks, 1 was lost, 1 waited for a place" in figure.caption
    picture = draw(figure, "svg").decode()
    assert all(text in picture for text in (">from 9<", "no place yet", "1,500", ">75%<", ">lost<"))


def test_without_workers_there_is_no_map(runs: RunStore) -> None:
    assert "workers" not in {one.key for one in figures_of(RunFacts.read(runs.database, "run"))}
