"""A map of the workers that evaluate candidates: where they are, how busy each is, and which are lost."""

from __future__ import annotations

from typing import Any, Final

from glorasearch.data.names import natural_key
from glorasearch.db import WorkerRecord
from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import DARK, Data, Figure, axis, spec
from glorasearch.quantities import took

_ACROSS: Final = 8
"""Workers of a host beside each other; further ones lie below."""
_NOWHERE: Final = "no place yet"
_LABEL: Final = "indexof(datum.value, ', from ') < 0 ? datum.value : 'from ' + split(datum.value, ', from ')[1]"
"""A host is named once, beside its first row."""


def workers(facts: RunFacts) -> Figure | None:
    """Hosts x workers, coloured by the share of time busy, with the evaluations that each has answered."""
    staff = facts.watched.workers
    if not staff:
        return None
    values = _cells(staff)
    rows = list(dict.fromkeys(cell["row"] for cell in values))
    columns = [str(number) for number in sorted({int(cell["column"]) for cell in values})]
    ready = {"transform": [{"filter": "datum.state === 'takes tasks'"}]}
    other = {"transform": [{"filter": "datum.state !== 'takes tasks'"}]}
    hover = [{"field": name} for name in ("worker", "host", "process", "state")]
    hover += [{"field": "tasks", "title": "evaluations", "format": ","}, {"field": "busy", "title": "evaluated for"},
              {"field": "share", "title": "of its time", "format": ".1%"}]  # fmt: skip
    color = {"field": "share", "type": "quantitative", "title": "of its time busy",
             "scale": {"domain": [0, 1], "scheme": "viridis"},
             "legend": {"format": ".0%", "orient": "top", "gradientLength": 160, "tickCount": 3}}  # fmt: skip
    ink = {"condition": {"test": f"datum.share > {DARK}", "value": "#000000"}, "value": "#ffffff"}

    def text(dy: int, size: int, field: str, **more: Any) -> dict[str, Any]:
        return {"mark": {"type": "text", "dy": dy, "fontSize": size}, "encoding": {"text": {"field": field}, **more}}

    layers = [
        ready | {"mark": "rect", "encoding": {"color": color, "tooltip": hover}},
        other | {"mark": {"type": "rect", "color": "#888888", "opacity": 0.25}, "encoding": {"tooltip": hover}},
        ready | text(-6, 11, "above", color=ink),
        ready | text(8, 10, "below", color=ink),
        other | text(-6, 11, "above"),
        other | text(8, 10, "below"),
    ]
    encoding = {
        "x": axis("column", None, "nominal", sort=columns, axis=None, scale={"paddingInner": 0.06, "paddingOuter": 0}),
        "y": axis("row", None, "nominal", sort=rows, scale={"paddingInner": 0.1, "paddingOuter": 0},
                  axis={"labelLimit": 140, "labelExpr": _LABEL, "domain": False, "ticks": False}),
    }  # fmt: skip
    return Figure(
        "workers",
        "Map of workers",
        _caption(facts, staff),
        spec(values, width={"step": 51}, height={"step": 36}, encoding=encoding, layer=layers, view={"stroke": None}),
    )


def _cells(staff: tuple[WorkerRecord, ...]) -> Data:
    of_host: dict[str, list[WorkerRecord]] = {}
    for one in sorted(staff, key=lambda one: (not one.host, natural_key(one.host), one.number)):
        of_host.setdefault(one.host or _NOWHERE, []).append(one)
    found: Data = []
    for host, own in of_host.items():
        for index, one in enumerate(own):
            first = index - index % _ACROSS
            state = _state(one)
            found.append({
                "worker": one.number, "host": host, "process": one.process or "-", "state": state,
                "row": host if not first else f"{host}, from {first + 1}", "column": str(index % _ACROSS + 1),
                "tasks": one.tasks, "busy": took(one.busy), "share": one.share,
                "above": f"{one.share:.0%}" if one.ready else state, "below": f"{one.tasks:,}",
            })  # fmt: skip
    return found


def _state(one: WorkerRecord) -> str:
    if one.ready:
        return "takes tasks"
    return "lost" if one.tasks or one.host else "waits"


def _caption(facts: RunFacts, staff: tuple[WorkerRecord, ...]) -> str:
    states = [_state(one) for one in staff]
    hosts = len({one.host for one in staff if one.host})
    said = [f"{states.count('takes tasks')} of {len(staff)} {_plural('worker', len(staff))} took tasks"]
    if states.count("lost"):
        said.append(f"{states.count('lost')} {'was' if states.count('lost') == 1 else 'were'} lost")
    if states.count("waits"):
        said.append(f"{states.count('waits')} waited for a place")
    searched = "search" in facts.record.stages
    when = "at the end of the search" if searched or not facts.watched.under_way else "when it was last recorded"
    return (
        f"The search's workers on {hosts} {_plural('host', hosts)}, {when}: {', '.join(said)}. In each cell the share "
        "of its time since the search began, or went on, in which it evaluated, and below it the evaluations that it "
        "has answered; grey: lost, or without a place."
    )


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
