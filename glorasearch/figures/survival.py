"""How often each choice is among the best trials."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from glorasearch.data.names import natural_key
from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import Figure, axis, spec
from glorasearch.statistics.subset_band import subset_band

_WITHIN, _MORE, _LESS = "within chance", "more often than by chance", "less often"


def survival(facts: RunFacts) -> Figure | None:
    """How often each choice is among the best trials, against the band that chance allows."""
    trials = [trial for trial in facts.trials if trial.genes]
    section = facts.record.config.get("search")
    kept = max(2, int((section if isinstance(section, dict) else {}).get("parents") or 10))
    ranked = sorted(
        (trial for trial in facts.evaluated if trial.genes), key=lambda one: one.fitness or 0.0, reverse=facts.rising
    )
    distinct = list({trial.subnet: trial for trial in ranked}.values())[:kept]
    every = list({trial.subnet: trial for trial in trials}.values())
    if len(distinct) < kept or len(every) < 3 * kept:
        return None
    names = sorted({_kind(gene, choice) for trial in every for gene, choice in trial.genes.items()}, key=_place)
    place = {name: column for column, name in enumerate(names)}
    counts = np.zeros((len(every), len(names)))
    for row, trial in enumerate(every):
        for gene, choice in trial.genes.items():
            counts[row, place[_kind(gene, choice)]] += 1
    genes = Counter(gene.rpartition(".")[2] for gene in every[0].genes)
    of_tensor = np.array([genes[tensor] for tensor, _ in names])
    low, high, draws = subset_band(counts, kept)
    best = {trial.subnet for trial in distinct}
    found = counts[[trial.subnet in best for trial in every]].sum(0) / kept
    values = [
        {"choice": f"{tensor}  {choice}", "share": share, "low": least, "high": most, "mean": mean,
         "verdict": _MORE if share > most else _LESS if share < least else _WITHIN}
        for (tensor, choice), share, least, most, mean in zip(
            names, *(numbers / of_tensor for numbers in (found, low, high, counts.mean(0))), strict=True
        )
    ]  # fmt: skip
    rows = [row["choice"] for row in values]
    verdicts = [_WITHIN, _MORE, _LESS]
    across = axis(
        "share", "share of the support tensor's genes", scale={"zero": True}, axis={"format": "~%", "tickCount": 5}
    )
    hover = [{"field": "choice"}, *({"field": name, "format": ".1%"} for name in ("share", "low", "high")),
             {"field": "mean", "title": "of all trials", "format": ".1%"}, {"field": "verdict"}]  # fmt: skip
    band = {"mark": {"type": "bar", "height": 9, "opacity": 0.25},
            "encoding": {"x": axis("low", across["title"], scale={"zero": True}, axis=across["axis"]),
                "x2": {"field": "high"}, "tooltip": hover}}  # fmt: skip
    point = {
        "mark": {"type": "point", "filled": True, "size": 75, "opacity": 1},
        "encoding": {
            "x": across, "tooltip": hover,
            "color": {"field": "verdict", "type": "nominal", "title": None, "scale": {"domain": verdicts},
                "legend": {"orient": "top"}},
            "shape": {"field": "verdict", "type": "nominal", "title": None,
                      "scale": {"domain": verdicts, "range": ["circle", "triangle-right", "triangle-left"]},
                          "legend": {"orient": "top"}},
        },
    }  # fmt: skip
    return Figure(
        "survival",
        "Which choices survive",
        f"Points: how often each choice is taken in the {kept} best of {len(every)} subnets. Bands: what {kept} "
        "subnets drawn from "
        f"all of them at random would have (permutation test, {draws:,} draws; two-sided 5 % over all {len(names)} "
        "rows together, "
        "by Bonferroni). Subnets are bred from each other, so that neighbours on a gene travel together: a point "
        "outside says "
        "what the best have in common, not what makes them good.",
        spec(values, width=400, height={"step": 20},
             encoding={"y": axis("choice", None, "nominal", sort=rows)}, layer=[band, point]),
    )  # fmt: skip


def _kind(gene: str, choice: str) -> tuple[str, str]:
    return gene.rpartition(".")[2], choice


def _place(kind: tuple[str, str]) -> tuple[Any, ...]:
    return kind[0], kind[1] != "none", natural_key(kind[1])
