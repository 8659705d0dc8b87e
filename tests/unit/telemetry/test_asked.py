"""Telemetry that cannot be had is refused, in words, before any work; what is not asked for is not there."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest

from glorasearch.errors import InputError
from glorasearch.runs import RunConfig
from glorasearch.runs.config import configuration_digest
from glorasearch.runs.log_config import LogConfig

VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """As if a package were not installed."""
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    real = list(sys.meta_path)

    class Blocker:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
            if name == package or name.startswith(f"{package}."):
                raise ModuleNotFoundError(name)
            return None

    monkeypatch.setattr(sys, "meta_path", [Blocker(), *real])


def test_what_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "opentelemetry")
    without(monkeypatch, "prometheus_client")
    LogConfig().check()
    with pytest.raises(InputError, match=r"log.to names otlp, but OpenTelemetry is not installed: pip install"):
        LogConfig(to=("otlp",)).check()
    with pytest.raises(InputError, match=r"log.prometheus needs prometheus-client: pip install 'glorasearch\[teleme"):
        LogConfig(prometheus=0).check()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(InputError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, .* OTEL_SDK_DISABLED=true"):
        LogConfig().check()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    LogConfig().check()


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"log.prometheus is {port}, and nothing can listen there on 127.0.0.1: A"):
            LogConfig(prometheus=port).check()
    with pytest.raises(InputError, match=r"nothing can listen there on 192.0.2.1"):
        LogConfig(prometheus=0, prometheus_host="192.0.2.1").check()
    LogConfig(prometheus=0).check()


def test_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    LogConfig().check()
    with pytest.raises(InputError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'; traces are sent by http/protobuf"):
        LogConfig(to=("otlp",)).check()


def test_a_run_is_the_same_whoever_watches_it() -> None:
    config = {"name": "tiny", "data": {"source": "digits"}, "backbone": {"name": "vit_tiny_patch16_224"}}
    plain = RunConfig.from_dict(config)
    watched = RunConfig.from_dict(config | {"log": {"to": ["otlp"], "prometheus": 9464, "prometheus_host": "0.0.0.0"}})
    digests = {configuration_digest(one.configuration(one.load_spaces())) for one in (plain, watched)}
    assert len(digests) == 1
