"""OpenTelemetry traces of a run: a span for the run, one for each stage, and one for each part within it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from threading import Timer
from typing import TYPE_CHECKING, Final

from glorasearch.db import StageState
from glorasearch.errors import reason
from glorasearch.runs.telemetry.asked import receiver
from glorasearch.terminal import shown

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from glorasearch.search import SearchProgress

_log = logging.getLogger(__name__)
LAST_SECONDS: Final = 5.0
"""How long a run that has ended waits for its last spans to be received."""
_LOGGERS: Final = ("opentelemetry.exporter.otlp.common.http", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
"""What they say at each attempt is said once."""


class StageTraces:
    """Sends spans by OTLP over HTTP to where OpenTelemetry's variables say, by default to localhost:4318.

    Spans are sent by a thread of its own as they end; a receiver that is out of reach costs them, and nothing else.
    """

    def __init__(self, run: str, attributes: Mapping[str, str]) -> None:
        """Begin the span of a run."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        service = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "glorasearch"}
        self._provider = TracerProvider(resource=Resource.create(service), shutdown_on_exit=False)
        self._exporter, self._said = OTLPSpanExporter(), False
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._say_once)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("glorasearch")
        self._root = self._tracer.start_span("run", attributes={"glorasearch.run": run, **attributes})
        self._open: list[tuple[str, Span]] = []

    def started(self, stage: str) -> None:
        """See `Observer.started`."""
        from opentelemetry.trace import set_span_in_context

        parent = self._open[-1][1] if self._open else self._root
        name = stage.partition(":")[0]
        span = self._tracer.start_span(name, set_span_in_context(parent), attributes={"glorasearch.stage": stage})
        self._open.append((stage, span))

    def advanced(self, stage: str, done: int, total: int) -> None:
        """See `Observer.advanced`."""
        if done >= total and self._open:
            self._open[-1][1].set_attributes({"glorasearch.done": done, "glorasearch.total": total})

    def ended(self, stage: str, state: StageState, error: BaseException | None) -> None:
        """See `Observer.ended`."""
        name, span = self._open.pop()
        assert name == stage
        _finish(span, state.value, error)

    def searched(self, progress: SearchProgress) -> None:
        """See `Observer.searched`."""
        counts = {"evaluated": progress.evaluated, "reused": progress.reused, "failed": progress.failed}
        self._open[-1][1].set_attributes({f"glorasearch.trials.{name}": count for name, count in counts.items()})

    def staffed(self, ready: int, wanted: int) -> None:
        """See `Observer.staffed`."""

    def close(self, state: str) -> None:
        """End the span of the run, and send what has not been sent."""
        _finish(self._root, state, None)
        last = Timer(LAST_SECONDS, self._exporter.shutdown)  # which ends its attempts
        last.start()
        self._provider.shutdown()
        last.cancel()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._say_once)

    def _say_once(self, record: logging.LogRecord) -> bool:
        if not self._said:
            self._said = True
            _log.warning("traces cannot be sent to %s; the run goes on without them", receiver())
        return False


def _finish(span: Span, state: str, error: BaseException | None) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("glorasearch.state", state)
    if state == StageState.FAILED:
        why = "" if error is None else shown(f"{type(error).__name__}: {reason(error)}")
        span.set_status(Status(StatusCode.ERROR, why))
    elif state == StageState.FINISHED:
        span.set_status(Status(StatusCode.OK))
    span.end()
