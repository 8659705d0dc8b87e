"""The telemetry of a run, opened where its run file and the environment ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from glorasearch.interrupts import is_interrupt
from glorasearch.runs.log_config import LogConfig
from glorasearch.runs.paths import public_name
from glorasearch.runs.telemetry.observer import Observer
from glorasearch.runs.telemetry.prometheus import PrometheusEndpoint


@contextmanager
def opened_telemetry(run: str, log: LogConfig, configuration: Mapping[str, Any]) -> Iterator[list[Observer]]:
    """The observers of a run that is about to work; closed at the end."""
    named = {key: public_name(str(configuration[key][name])) for key, name in _NAMED.items()}
    observers: list[Observer] = []
    if log.prometheus is not None:
        observers.append(PrometheusEndpoint(log.prometheus_host, log.prometheus, run, named))
    if log.traced:
        from glorasearch.runs.telemetry.traces import StageTraces

        observers.append(StageTraces(run, {f"glorasearch.{key}": value for key, value in named.items()}))
    state = "finished"
    try:
        yield observers
    except BaseException as error:
        state = "stopped" if is_interrupt(error) else "failed"
        raise
    finally:
        for observer in observers:
            observer.close(state)


def endpoints(observers: Iterable[Observer]) -> list[PrometheusEndpoint]:
    """Those of the observers that take the points of curves, too."""
    return [one for one in observers if isinstance(one, PrometheusEndpoint)]


_NAMED = {"backbone": "name", "data": "source", "space": "name"}
