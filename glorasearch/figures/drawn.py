"""How figures look, light and dark, and their pictures."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, Final, Literal

from glorasearch.figures.figure import Figure

Theme = Literal["light", "dark"]
Format = Literal["png", "svg", "pdf"]

_making = threading.Lock()
_INK: Final = {
    "light": ("#ffffff", "#1f2328", "#59636e", "#d1d9e0"),
    "dark": ("#16191d", "#e6edf3", "#a3adb8", "#3a424b"),
}
"""Background, text, lesser text, lines."""
_COLOURS: Final = {
    "light": (
        "#0072b2",
        "#d55e00",
        "#009e73",
        "#cc79a7",
        "#56b4e9",
        "#e69f00",
        "#6f6f6f",
        "#882255",
        "#332288",
        "#999933",
    ),
    "dark": (
        "#56b4e9",
        "#e69f00",
        "#2fc499",
        "#cc79a7",
        "#f0e442",
        "#ee7733",
        "#b0b0b0",
        "#88ccee",
        "#ddaadd",
        "#bbcc33",
    ),
}
"""Told apart by the colour-blind (after Okabe and Ito)."""


def theme(name: Theme) -> dict[str, Any]:
    """Vega-Lite's `config` of a theme."""
    ground, text, lesser, line = _INK[name]
    colours = list(_COLOURS[name])
    return {
        "background": ground,
        "font": "system-ui, Helvetica, Arial, sans-serif",
        "view": {"stroke": line},
        "axis": {"labelColor": lesser, "titleColor": text, "gridColor": line, "gridOpacity": 0.6, "domainColor": line,
                 "tickColor": line, "titleFontWeight": "normal", "labelLimit": 220, "labelSeparation": 4},
        "legend": {"symbolOpacity": 1, "labelColor": lesser,
                    "titleColor": text, "titleFontWeight": "normal", "labelLimit": 220},
        "header": {"labelColor": text, "titleColor": text, "labelLimit": 260},
        "title": {"color": text, "subtitleColor": lesser},
        "range": {"category": colours, "ramp": {"scheme": "viridis"}, "heatmap": {"scheme": "viridis"}},
        **{mark: {"color": colours[0]} for mark in ("line", "point", "circle", "bar", "area", "tick")},
        "rule": {"color": lesser},
        "text": {"color": text},
    }  # fmt: skip


def library() -> str:
    """Vega, Vega-Lite and vega-embed as one script for browsers, which defines `vegaEmbed`; made once, in seconds."""
    with _making:
        return _library()


@cache
def _library() -> str:
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def draw(figure: Figure, format: Format = "png", look: Theme = "light", scale: float = 2) -> bytes:
    """A picture of a figure.

    Args:
        figure: what is drawn.
        format: of the file.
        look: its theme.
        scale: pixels of a PNG for each of the figure.
    """
    import vl_convert

    if format == "png":
        return vl_convert.vegalite_to_png(figure.spec, config=theme(look), scale=scale)
    if format == "pdf":
        return vl_convert.vegalite_to_pdf(figure.spec, config=theme(look))
    return vl_convert.vegalite_to_svg(figure.spec, config=theme(look)).encode()
