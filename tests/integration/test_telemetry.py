"""What operators see of a run while it goes on: the metrics of its driver and of Ray's workers, its traces."""

from __future__ import annotations

import socket
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from support.processes import wait_until
from support.receivers import Samples, attributes, scrape, trace_receiver
from support.spaces import tasks_of

from glorasearch.runs import Advance, Run, RunConfig, Silent
from workers import RayExecutor
from workers.cluster import connect

SHORT = (
    *("train.steps=12", "refit.steps=4", "search.trials=24", "report.baselines=[]", "report.random_subnets=0"),
    *("report.chance_subnets=0", 'log.to=["otlp"]', "log.prometheus=0"),
)


class Scraper(Silent):
    """Reads the metrics as a Prometheus would, during the refit."""

    address = ""

    def __init__(self) -> None:
        self.found: Samples = {}

    def say(self, text: str) -> None:
        if text.startswith("metrics: "):
            self.address = text.partition(" ")[2]

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        yield lambda done, note="": None
        if title.startswith("refit"):
            self.found = scrape(self.address)


def test_a_run_serves_metrics_while_it_works_and_sends_its_stages(
    tiny_run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scraper = Scraper()
    with trace_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        run = Run(RunConfig.load(tiny_run_file, SHORT), tmp_path / "workspace", progress=scraper)
        report = run.execute()

    assert scraper.address.startswith("http://127.0.0.1:")

    def value(metric: str, /, **labels: str) -> float:
        (found,) = (
            value for given, value in scraper.found[f"glorasearch_{metric}"] if given == {"run": "tiny", **labels}
        )
        return found

    assert value("stage_running", stage="refit") == 1
    assert value("stage_running", stage="train") == 0
    assert value("stage_done", stage="train") == 12
    assert value("stage_total", stage="search") == 24
    assert value("stages_ended_total", state="finished") == 2
    trials = {outcome: value("trials", outcome=outcome) for outcome in ("evaluated", "reused", "failed")}
    assert sum(trials.values()) == 24
    assert value("best_accuracy") == report.winner.search_accuracy
    assert value("best_parameters") == report.winner.parameters
    assert value("measured", stage="train", name="loss") > 0
    assert value("workers", state="ready") == 1
    with pytest.raises(urllib.error.URLError):
        scrape(scraper.address)

    stages = ("train", "search", "refit", "test", "export", "report")
    assert receiver.parents() == {"run": "", **dict.fromkeys(stages, "run")}
    search = next(span for span in receiver.spans if span.name == "search")
    assert attributes(search)["glorasearch.trials.evaluated"] == trials["evaluated"]


def test_the_workers_of_ray_serve_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "200")
    connection = connect(workers=1, gpus_per_worker=0, address=None)
    try:
        tasks = tasks_of(12)
        with RayExecutor("support.ray_burn:make", {"rounds": 10}, workers=1) as executor:
            for task in tasks:
                executor.submit(task)
            for _ in tasks:
                executor.next_result()
            (worker,) = executor.staff
            assert (worker.number, worker.host, worker.ready) == (0, socket.gethostname(), True)
            assert (worker.tasks, worker.busy) == (len(tasks), pytest.approx(0.25 * len(tasks)))
            (node,) = ray.nodes()
            address = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"

            def outcomes() -> dict[str, float]:
                samples = scrape(address).get("ray_glorasearch_evaluations_total", [])
                return {labels["outcome"]: value for labels, value in samples}

            wait_until(lambda: sum(outcomes().values()) == len(tasks), "the metrics of the worker")
            found = scrape(address)
    finally:
        connection.close()
    ((labels, count),) = found["ray_glorasearch_evaluation_seconds_count"]
    assert count == len(tasks)
    assert {"NodeAddress", "WorkerId"} <= labels.keys()
    assert found["ray_glorasearch_evaluator_builds_total"][0][1] == 1
    assert found["ray_glorasearch_evaluated_images_total"][0][1] > 0
    assert "ray_glorasearch_evaluation_seconds_bucket" in found
    assert found["ray_glorasearch_evaluation_seconds_sum"][0][1] > 0
