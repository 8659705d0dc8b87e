"""The search: its best, mean and spread as it went on, and score against parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any, Final

from glorasearch.figures.facts import RunFacts, TrialFact
from glorasearch.figures.figure import WIDTH, Data, Figure, axis, spec, thinned
from glorasearch.search.front import front as unbeaten
from glorasearch.search.objectives import Objective

TrialLink = Callable[[int], str]
FEW: Final = 14
"""Generations up to which each has a tick."""
_SHORT: Final = "format(datum.value, '~s')"
"""A tick alone, `0`, `500`, `1k`; a format of the axis writes all in the unit of the largest, `0k` and `0.5k`."""


def generations(facts: RunFacts) -> Figure | None:
    """Best, mean and spread over the generations."""
    rows = _generations(facts)
    if not rows:
        return None
    size, what = _generation_size(facts)
    return Figure(
        "generations",
        "Search, generation by generation",
        f"{_sentence(facts.fitness_title)} on the search split with inherited weights; of each {what} of {size} "
        "trials the "
        "mean, and the band from worst to best. Trials that were stopped early are certain to be no parents; "
        "their score "
        f"is not known, so that mean and band are of the others. The {'upper' if facts.rising else 'lower'} line "
        "is the best so far.",
        _band(rows, axis("generation", what, axis=_whole(len(rows))), facts),
    )


def _whole(last: int) -> dict[str, Any]:
    """Ticks at whole numbers from 1; where they are few, Vega would put some between, which read as the next one."""
    return {"format": "d", **({"values": list(range(1, last + 1))} if last <= FEW else {})}


def over_time(facts: RunFacts) -> Figure | None:
    """The same over the seconds since the first trial ended."""
    rows = [row for row in _generations(facts) if row["seconds"] is not None]
    if not rows:
        return None
    return Figure(
        "time",
        "Search over time",
        f"{_sentence(facts.fitness_title)} as before, each generation at the time its last trial was recorded, in "
        "seconds since "
        "the first one was; a pause between two processes counts.",
        _band(rows, axis("seconds", "seconds since the first trial"), facts),
    )


def front(facts: RunFacts, trial_link: TrialLink | None = None) -> Figure | None:
    """Score against parameters, with the trials that no other one beats in both."""
    trials = facts.evaluated
    if not trials:
        return None
    objectives: tuple[Objective, ...] = (facts.fitness, "parameters")
    best = {one.number for one in unbeaten((trial.record for trial in trials), objectives)}
    won = _winner(facts)

    def row(trial: TrialFact) -> dict[str, Any]:
        kind = "winner of the search" if trial.number == won else "front" if trial.number in best else "other trial"
        found = {"trial": trial.number, "parameters": trial.parameters, "fitness": trial.fitness, "kind": kind}
        found |= {"accuracy": trial.accuracy, "start": trial.start or "bred", "choices": _brief(trial)}
        return found if trial_link is None else found | {"href": trial_link(trial.number)}

    hover = [
        {"field": "trial"},
        {"field": "fitness", "title": facts.fitness_axis, "format": ".3"},
        {"field": "accuracy", "title": "accuracy on the search split", "format": ".1%"},
        {"field": "parameters", "format": ","},
        {"field": "start"},
        {"field": "choices"},
    ]
    encoding: dict[str, Any] = {
        "x": axis("parameters", "trainable parameters", scale={"zero": True}, axis={"labelExpr": _SHORT}),
        "y": axis("fitness", facts.fitness_axis),
    }
    link = {} if trial_link is None else {"href": {"field": "href"}}
    kinds = ["other trial", "front", "winner of the search"]
    points = {
        "mark": {"type": "point", "filled": True, "opacity": 0.85},
        "encoding": {
            "color": {"field": "kind", "type": "nominal", "title": None, "scale": {"domain": kinds},
                      "legend": {"orient": "top"}},
            "shape": {"field": "kind", "type": "nominal", "scale": {"domain": kinds, "range": ["circle", "square",
                "diamond"]},
                      "title": None, "legend": {"orient": "top"}},
            "size": {"condition": {"test": "datum.kind === 'other trial'", "value": 36}, "value": 110},
            "tooltip": hover, **link,
        },
    }  # fmt: skip
    line = {
        "transform": [{"filter": "datum.kind !== 'other trial'"}],
        "mark": {"type": "line", "interpolate": "step-after", "opacity": 0.6},
        "encoding": {"order": {"field": "parameters"}},
    }
    return Figure(
        "front",
        "Score against parameters",
        f"Every trial that was evaluated to the end ({len(trials)} of {len(facts.trials)}): {facts.fitness_title} "
        "on the search "
        "split, with inherited weights, against its trainable parameters without the head. No other trial beats "
        "those of "
        "the front in both.",
        spec([row(trial) for trial in trials], width=WIDTH, height=300, encoding=encoding, layer=[line, points]),
    )


def _band(rows: Data, across: dict[str, Any], facts: RunFacts) -> dict[str, Any]:
    def line(field: str, name: str, dash: Sequence[int]) -> dict[str, Any]:
        return {
            "mark": {"type": "line", "strokeDash": list(dash), "point": {"size": 22}},
            "encoding": {"y": axis(field, facts.fitness_axis), "color": {"datum": name, "title": None}},
        }

    hover = [{"field": across["field"], "format": ".3"}]
    hover += [{"field": name, "format": ".3"} for name in ("best_so_far", "mean", "worst", "best")]
    area = {
        "mark": {"type": "area", "opacity": 0.2},
        "encoding": {"y": axis("worst", facts.fitness_axis), "y2": {"field": "best"}, "tooltip": hover,
                     "color": {"datum": "worst to best", "title": None, "legend": {"orient": "top"}}},
    }  # fmt: skip
    layers = [area, line("mean", "mean", [4, 3]), line("best_so_far", "best so far", [1, 0])]
    return spec(thinned(rows), width=WIDTH, height=240, encoding={"x": across}, layer=layers)


def _generations(facts: RunFacts) -> Data:
    size, _ = _generation_size(facts)
    groups: dict[int, list[TrialFact]] = {}
    for trial in facts.trials:
        groups.setdefault(trial.number // size, []).append(trial)
    times = [trial.finished for trial in facts.trials if trial.finished is not None]
    first = min(times, default=None)
    better = max if facts.rising else min
    worse = min if facts.rising else max
    so_far: float | None = None
    rows: Data = []
    for number, trials in sorted(groups.items()):
        scores = [trial.fitness for trial in trials if trial.fitness is not None]
        if not scores:
            continue
        so_far = better(scores) if so_far is None else better(so_far, better(scores))
        last = max((trial.finished for trial in trials if trial.finished is not None), default=None)
        seconds = None if last is None or first is None else (last - first).total_seconds()
        rows.append({"generation": number + 1, "seconds": seconds, "mean": mean(scores), "best": better(scores),
                     "worst": worse(scores), "best_so_far": so_far, "trials": len(trials)})  # fmt: skip
    return rows


def _generation_size(facts: RunFacts) -> tuple[int, str]:
    """Trials of a generation, or of as many as are drawn together or named so; at least 5 points where there are "
    "enough."""
    section = facts.record.config.get("search")
    settings = section if isinstance(section, dict) else {}
    generational = settings.get("sampler", "evolution") in ("evolution", "nsga2") and settings.get("mode") != "steady"
    size = max(1, int(settings.get("population" if generational else "batch") or 10))
    if generational and len(facts.trials) >= 5 * size:
        return size, "generation"
    return (size, "generation") if generational and len(facts.trials) < 20 else (max(1, min(size, 10)), "batch")


def _winner(facts: RunFacts) -> int | None:
    found = facts.record.stages.get("search", {}).get("trial")
    return found if isinstance(found, int) else None


def _brief(trial: TrialFact) -> str:
    """Its choices, the most frequent first."""
    counts: dict[str, int] = {}
    for gene, choice in trial.genes.items():
        if choice != "none":
            name = f"{gene.rpartition('.')[2]}={choice}"
            counts[name] = counts.get(name, 0) + 1
    most = sorted(counts.items(), key=lambda pair: -pair[1])[:6]
    return ", ".join(f"{name} x {count}" for name, count in most) or "none"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
