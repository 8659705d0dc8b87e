"""Templates: every value is escaped, numbers have three digits, colours are classes of one style sheet."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from dashboards.pages import numbers

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What browsers let a page do."""
KNOWN: Final = ("none", "constant", "vector", "lora", "wegeft", "fourier", "dash", "ssf", "tsd")
"""Choice classes with a colour of their own."""
ASSETS: Final = {
    "pages.css": "text/css",
    "theme.js": "text/javascript",
    "pages.js": "text/javascript",
    "figures.js": "text/javascript",
    "optuna.js": "text/javascript",
}


def render(template: str, **values: Any) -> bytes:
    """A page as UTF-8."""
    return _environment().get_template(template).render(values).encode()


def asset(name: str) -> bytes | None:
    """A file that pages ask for; None if there is none of that name."""
    return files("dashboards.pages").joinpath("assets", name).read_bytes() if name in ASSETS else None


@cache
def assets_version() -> str:
    """Changes when an asset does, so that browsers may keep them."""
    return hashlib.sha256(b"".join(asset(name) or b"" for name in ASSETS)).hexdigest()[:12]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dashboards.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": numbers.number,
        "percent": numbers.percent,
        "interval": numbers.interval,
        "seconds": numbers.seconds,
        "bytes": numbers.size,
        "part": lambda text: quote(str(text), safe=""),
        "choice_class": choice_class,
        "utc": utc,
        "iso": lambda moment: _aware(moment).isoformat(timespec="seconds"),
    }
    environment.globals |= {
        "version": assets_version(),
        "drawing": version("vl-convert-python"),
        "missing": numbers.MISSING,
    }
    return environment


def choice_class(choice: str) -> str:
    """The style class of a choice, such as `c-lora`."""
    name = choice.partition(":")[0]
    return f"c-{name}" if name in KNOWN else "c-other"


def utc(moment: datetime) -> str:
    """A moment as text: `2026-01-31 12:00 UTC`."""
    return f"{_aware(moment):%Y-%m-%d %H:%M} UTC"


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
