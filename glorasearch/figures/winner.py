"""The winner as a picture, and how often each choice survives."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import numpy as np

from glorasearch.data.names import natural_key
from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import Data, Figure, axis, spec

DRAWS: Final = 4_000
"""Random sets of trials that a band is of."""


def picture(facts: RunFacts) -> Figure | None:
    """Layers x support tensors, coloured by choice, with each layer's share of the parameters."""
    pick = facts.pick
    if pick is None:
        return None
    genes = [{"layer": layer, "tensor": tensor, "choice": choice} for (layer, tensor), choice in pick.subnet.items()]
    layers = sorted({gene["layer"] for gene in genes}, key=natural_key)
    counted = facts.layer_parameters()
    total = sum(counted.values())
    values: Data = [dict(gene) for gene in genes]
    chosen = sorted({gene["choice"] for gene in genes} - {"none"}, key=natural_key)
    down = axis("layer", None, "nominal", sort=layers, axis={"labelLimit": 220})
    cells = {
        "width": {"step": 46}, "height": {"step": 15},
        "encoding": {
            "x": axis("tensor", "support tensor", "nominal", axis={"orient": "top", "labelAngle": 0}),
            "y": down,
            "tooltip": [{"field": "layer"}, {"field": "tensor", "title": "support tensor"}, {"field": "choice"}],
        },
        "layer": [
            {"transform": [{"filter": "datum.choice === 'none'"}],
             "mark": {"type": "rect", "color": "#888888", "opacity": 0.15}},
            {"transform": [{"filter": "datum.choice !== 'none'"}], "mark": "rect",
             "encoding": {"color": {"field": "choice", "type": "nominal", "title": "choice", "sort": chosen}}},
        ],
    }  # fmt: skip
    said = "what each layer takes of the parameters is not drawn, since the shapes of the layers are not known here"
    parts: list[dict[str, Any]] = [cells]
    if total:
        shares = [
            {"layer": layer, "parameters": counted.get(layer, 0), "share": counted.get(layer, 0) / total}
            for layer in layers
        ]
        parts.append({
            "data": {"values": shares}, "width": 170, "height": {"step": 15}, "mark": "bar",
            "encoding": {
                "x": axis("share", "share of the parameters", scale={"zero": True}, axis={"orient": "top",
                    "format": "~%", "tickCount": 4}),
                "y": axis("layer", None, "nominal", sort=layers, axis=None),
                "tooltip": [{"field": "layer"}, {"field": "parameters", "format": ","}, {"field": "share",
                    "format": ".1%"}],
            },
        })  # fmt: skip
        said = "bars: the share of the parameters that each layer takes"
    return Figure(
        "winner",
        "The winner, gene by gene",
        f"{pick.label}, {pick.parameters:,} parameters: the choice of each support tensor of each layer, grey where "
        f"it is none; {said}.",
        spec(values, hconcat=parts, resolve={"scale": {"y": "independent"}}, spacing=12),
    )


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
    genes = Counter(gene.rpartition(".")[2] for gene in every[0].genes)
    for row, trial in enumerate(every):
        for gene, choice in trial.genes.items():
            counts[row, place[_kind(gene, choice)]] += 1 / genes[gene.rpartition(".")[2]]
    tail = 0.025 / len(names)
    rng = np.random.default_rng(0)
    drawn = np.stack([counts[rng.choice(len(every), kept, replace=False)].mean(0) for _ in range(DRAWS)])
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    best = {trial.subnet for trial in distinct}
    found = counts[[trial.subnet in best for trial in every]].mean(0)
    values = [
        {"choice": f"{tensor}  {choice}", "share": found[column], "low": low[column], "high": high[column],
         "mean": counts[:, column].mean(),
         "verdict": "more often than by chance" if found[column] > high[column] + 1e-9
         else "less often" if found[column] < low[column] - 1e-9 else "within chance"}
        for column, (tensor, choice) in enumerate(names)
    ]  # fmt: skip
    rows = [row["choice"] for row in values]
    verdicts = ["within chance", "more often than by chance", "less often"]
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
        f"all of them at random would have (permutation test, {DRAWS:,} draws; two-sided 5 % over all {len(names)} "
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
