"""Whether the environment asks for traces, by the variables that OpenTelemetry has for it."""

from __future__ import annotations

import os
from typing import Final

from glorasearch.redact import redact_url

PROTOCOL: Final = "http/protobuf"
PROTOCOL_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def asked_by_environment() -> str | None:
    """The variable of OpenTelemetry that asks for traces, unless another one says that there are to be none."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "otlp":
        return None
    return next((name for name in _ENDPOINTS if os.environ.get(name)), None)


def receiver() -> str:
    """Where the traces go, for messages."""
    return redact_url(next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "http://localhost:4318"))
