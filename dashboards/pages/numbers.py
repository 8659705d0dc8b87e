"""Numbers as the pages show them: three significant digits, and a unit."""

from __future__ import annotations

import math
from typing import Final

from glorasearch.quantities import byte_size, took

MISSING: Final = "–"
_LARGE: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float | None) -> str:
    """Three significant digits; whole numbers below 10,000 as they are."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "not finite"
    if float(value).is_integer() and abs(value) < 10_000:
        return f"{value:.0f}"
    size = abs(value)
    for unit, letter in _LARGE:
        if size >= 0.9995 * unit and size >= 9_995:
            return f"{value / unit:.3g} {letter}"
    return f"{value:.0f}" if size >= 999.5 else f"{value:.3g}"


def percent(share: float | None) -> str:
    """A share in percent: `97.4 %`."""
    return MISSING if share is None else f"{100 * share:.1f} %"


def interval(bounds: tuple[float, float] | None) -> str:
    """Of shares, in percent: `96.0 to 98.3`."""
    return "" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def seconds(value: float | None) -> str:
    """A duration in its largest unit."""
    return MISSING if value is None else took(value)


def size(value: float | None) -> str:
    """Bytes with three digits and a unit."""
    return MISSING if value is None else byte_size(value)


def worth_text(fitness: str, value: float | None) -> str:
    """A fitness: of accuracies in percent, else three digits."""
    return percent(value) if fitness in ("accuracy", "balanced_accuracy") else number(value)
