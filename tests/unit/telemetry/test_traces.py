"""Traces as a receiver of OpenTelemetry gets them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from support.receivers import TraceReceiver, attributes, trace_receiver

from glorasearch.db import RunStore
from glorasearch.runs.live_progress import LiveProgress
from glorasearch.runs.progress import Silent
from glorasearch.runs.telemetry import traces
from glorasearch.runs.telemetry.traces import StageTraces

UNSET, OK, ERROR = 0, 1, 2
"""Of a span's status."""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[TraceReceiver]:
    with trace_receiver() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        yield received


def test_stages_and_their_parts_are_spans_within_that_of_the_run(receiver: TraceReceiver, tmp_path: object) -> None:
    runs = RunStore(f"sqlite:///{tmp_path}/runs.db")
    runs.create("tiny", {}, "")
    progress = LiveProgress(Silent(), runs, "tiny")
    observer = StageTraces("tiny", {"glorasearch.backbone": "vit"})
    progress.observers = [observer]
    with progress.stage("train"), progress.task("supernet", 2) as advance:
        advance(1, "")
        advance(2, "")
    with pytest.raises(KeyboardInterrupt), progress.stage("search"):
        raise KeyboardInterrupt
    with pytest.raises(OSError), progress.stage("refit"), progress.stage("refit:fold1"):  # noqa: PT011
        raise OSError("disk full, postgresql://me:hidden@host/db")
    observer.close("failed")

    assert receiver.services == {"glorasearch"}
    assert receiver.parents() == {
        "train": "run", "search": "run", "refit": "run", "refit:fold1": "refit", "run": "",
    }  # fmt: skip
    spans = {attributes(span).get("glorasearch.stage", span.name): span for span in receiver.spans}
    assert len({span.trace_id for span in spans.values()}) == 1
    assert attributes(spans["run"]) == {
        "glorasearch.run": "tiny", "glorasearch.backbone": "vit", "glorasearch.state": "failed",
    }  # fmt: skip
    assert attributes(spans["train"])["glorasearch.done"] == 2
    assert {name: span.status.code for name, span in spans.items()} == {
        "train": OK, "search": UNSET, "refit": ERROR, "refit:fold1": ERROR, "run": ERROR,
    }  # fmt: skip
    assert attributes(spans["search"])["glorasearch.state"] == "stopped"
    assert spans["refit"].status.message.startswith("OSError: disk full")
    assert "hidden" not in spans["refit"].status.message
    inner, outer = spans["refit:fold1"], spans["refit"]
    assert outer.start_time_unix_nano <= inner.start_time_unix_nano <= inner.end_time_unix_nano
    assert inner.end_time_unix_nano <= outer.end_time_unix_nano


def test_a_receiver_that_is_away_is_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(traces, "LAST_SECONDS", 0.5)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hidden@127.0.0.1:9")
    observer = StageTraces("tiny", {})
    began = time.monotonic()
    observer.close("finished")
    assert time.monotonic() - began < 5
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("traces cannot be sent to http://")
    assert message.endswith("@127.0.0.1:9; the run goes on without them")
    assert "hidden" not in message
