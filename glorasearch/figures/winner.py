"""The winner as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glorasearch.data.names import natural_key
from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import Data, Figure, axis, spec


def gene_cells(genes: Data, layers: Sequence[str]) -> dict[str, Any]:
    """A cell for each gene, coloured by its choice, grey where that is none.

    Args:
        genes: rows with `layer`, `tensor` and `choice`.
        layers: from top to bottom.
    """
    chosen = sorted({gene["choice"] for gene in genes} - {"none"}, key=natural_key)
    return {
        "width": {"step": 46}, "height": {"step": 15},
        "encoding": {
            "x": axis("tensor", "support tensor", "nominal", axis={"orient": "top", "labelAngle": 0}),
            "y": axis("layer", None, "nominal", sort=list(layers), axis={"labelLimit": 220}),
            "tooltip": [{"field": "layer"}, {"field": "tensor", "title": "support tensor"}, {"field": "choice"}],
        },
        "layer": [
            {"transform": [{"filter": "datum.choice === 'none'"}],
             "mark": {"type": "rect", "color": "#888888", "opacity": 0.15}},
            {"transform": [{"filter": "datum.choice !== 'none'"}], "mark": "rect",
             "encoding": {"color": {"field": "choice", "type": "nominal", "title": "choice", "sort": chosen}}},
        ],
    }  # fmt: skip


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
    cells = gene_cells(values, layers)
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
                "x": axis("share", "", scale={"zero": True}, axis={"orient": "top", "format": "~%",
                    "tickCount": 4, "title": ["share of the", "parameters"]}),
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
