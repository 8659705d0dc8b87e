"""The driver's Prometheus endpoint; that of the workers is Ray's (`workers.metrics`)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from glorasearch.db import StageState
from glorasearch.runs.curves.curves import Table
from glorasearch.runs.curves.rows import Row
from glorasearch.runs.telemetry.port import refused
from glorasearch.version import __version__

if TYPE_CHECKING:
    from glorasearch.search import SearchProgress

OUTCOMES: Final = ("evaluated", "reused", "stopped_early", "failed")
"""Of trials; those that were stopped early are evaluated ones, too."""


class PrometheusEndpoint:
    """Serves what a run does as metrics, at `/metrics`; also a `Writer` of curves, of which it has the last values.

    Raises:
        InputError: if the port cannot be had.
    """

    def __init__(self, host: str, port: int, run: str, named: Mapping[str, str]) -> None:
        """Serve from now on.

        Args:
            host: address to listen on.
            port: 0 takes a free one.
            run: its name, a label of every metric.
            named: backbone, data and space of the run.
        """
        from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, start_http_server

        self._registry, self._run = CollectorRegistry(), run
        ProcessCollector(registry=self._registry)

        def gauge(name: str, text: str, *labels: str) -> Any:
            made = Gauge(f"glorasearch_{name}", text, ("run", *labels), registry=self._registry)
            return made if labels else made.labels(run)

        info = gauge("run_info", "What the run is; always 1.", "backbone", "data", "space", "version")
        info.labels(run, named["backbone"], named["data"], named["space"], __version__).set(1)
        gauge("run_started_seconds", "When this process began to work on it, seconds since 1970.").set(time.time())
        self._running = gauge("stage_running", "1 while a stage, or a part of one, is under way, then 0.", "stage")
        self._done = gauge("stage_done", "Steps, trials or models done of a stage's present task.", "stage")
        self._total = gauge("stage_total", "How many there are in all.", "stage")
        self._seconds = gauge("stage_seconds", "Seconds that a stage has taken, of this process.", "stage")
        self._ended = Counter(
            "glorasearch_stages_ended", "Stages that have ended.", ("run", "state"), registry=self._registry
        )
        self._last = gauge("measured", "The last value of a curve: loss, rate, probe, score.", "stage", "name")
        self._trials = gauge("trials", "Finished trials, those of earlier processes included.", "outcome")
        self._best_fitness = gauge("best_fitness", "Fitness of the best trial so far.")
        self._best_accuracy = gauge("best_accuracy", "Its accuracy on the search split, from 0 to 1; NaN of numbers.")
        self._best_parameters = gauge("best_parameters", "Its trainable parameters, the head excluded.")
        self._workers = gauge("workers", "Workers that evaluate.", "state")
        self._began: dict[str, float] = {}
        for state in (StageState.FINISHED, StageState.STOPPED, StageState.FAILED):
            self._ended.labels(run, state.value)
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=self._registry)
        except OSError as error:
            raise refused(host, port, error) from error
        self.address = f"http://{host}:{self._server.server_port}/metrics"

    @property
    def place(self) -> str:
        """See `Writer.place`."""
        return "the Prometheus endpoint"

    def started(self, stage: str) -> None:
        """See `Observer.started`."""
        self._began[stage] = time.monotonic()
        self._running.labels(self._run, stage).set(1)

    def advanced(self, stage: str, done: int, total: int) -> None:
        """See `Observer.advanced`."""
        self._done.labels(self._run, stage).set(done)
        self._total.labels(self._run, stage).set(total)
        self._seconds.labels(self._run, stage).set(time.monotonic() - self._began[stage])

    def ended(self, stage: str, state: StageState, error: BaseException | None) -> None:
        """See `Observer.ended`."""
        self._running.labels(self._run, stage).set(0)
        self._seconds.labels(self._run, stage).set(time.monotonic() - self._began[stage])
        self._ended.labels(self._run, state.value).inc()

    def searched(self, progress: SearchProgress) -> None:
        """See `Observer.searched`."""
        for outcome in OUTCOMES:
            self._trials.labels(self._run, outcome).set(getattr(progress, outcome))
        if progress.best is not None and progress.best_fitness is not None:
            self._best_fitness.set(progress.best_fitness)
            score = progress.best.score
            self._best_accuracy.set(score.accuracy if score.right_or_wrong else math.nan)
            self._best_parameters.set(progress.best.parameters)

    def staffed(self, ready: int, wanted: int) -> None:
        """See `Observer.staffed`."""
        self._workers.labels(self._run, "ready").set(ready)
        self._workers.labels(self._run, "wanted").set(wanted)

    def append(self, row: Row, table: Table) -> None:
        """See `Writer.append`."""
        for name, value in row.values.items():
            self._last.labels(self._run, row.stage, name).set(value)

    def rewrite(self, table: Table) -> None:
        """See `Writer.rewrite`."""
        for rows in table.values():
            for row in rows.values():
                self.append(row, table)

    def close(self, state: str) -> None:
        """Serve no more; nothing where that was done before."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
