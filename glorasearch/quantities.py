"""Times, sizes and shares in words: one form for the terminal, pages, figures and reports."""

from __future__ import annotations

from typing import Final

MISSING: Final = "-"
"""Stands in a table for a number that is not there."""
_TIMES: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def about(seconds: float) -> str:
    """A time that is estimated, or still runs, as people say it: `0 s`, `8.21 s`, `66 s`, `17 min`, `1.6 h`."""
    if seconds < 90:
        return f"{round(seconds, 2):.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def took(seconds: float) -> str:
    """A time that was measured, with three digits in its largest unit: `64.6` → `1.08 min`."""
    for size, unit in _TIMES:
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def byte_size(number: float) -> str:
    """Bytes with three digits and a unit."""
    value, unit = float(number), "B"
    for larger in ("kB", "MB", "GB"):
        if value >= 999.5:
            value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def percent(share: float | None) -> str:
    """A share in percent, with one decimal."""
    return MISSING if share is None else f"{100 * share:.1f} %"


def three_digits(number: float) -> str:
    """A number in a unit of its own, with three digits, without an exponent where people write none: `2,390`."""
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}" if 999.5 <= abs(rounded) < 1e9 else f"{number:.3g}"
