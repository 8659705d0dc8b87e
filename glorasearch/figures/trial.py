"""A trial's subnet as a picture."""

from __future__ import annotations

from collections.abc import Mapping

from glorasearch.data.names import natural_key
from glorasearch.figures.figure import Data, Figure, spec
from glorasearch.figures.winner import gene_cells


def subnet(number: int, genes: Mapping[str, str], best: Mapping[str, str] | None = None) -> Figure:
    """Layers x support tensors, coloured by choice; with a dot where the best trial has another one.

    Args:
        number: of the trial.
        genes: gene, such as `blocks.0.attn.qkv.B`, to choice.
        best: those of the best trial, if it is another one.
    """
    rows: Data = []
    for name, choice in genes.items():
        layer, _, tensor = name.rpartition(".")
        differs = best is not None and best.get(name, choice) != choice
        rows.append({"layer": layer, "tensor": tensor, "choice": choice, "differs": differs})
    cells = gene_cells(rows, sorted({row["layer"] for row in rows}, key=natural_key))
    dots = {
        "transform": [{"filter": "datum.differs"}],
        "mark": {
            "type": "circle",
            "size": 34,
            "color": "#ffffff",
            "opacity": 1,
            "stroke": "#000000",
            "strokeWidth": 1.5,
        },
    }
    differing = sum(row["differs"] for row in rows)
    said = (
        "" if best is None else f" With a dot: the {differing} of {len(rows)} in which it differs from the best trial."
    )
    return Figure(
        "genes",
        f"Trial {number}, gene by gene",
        f"The choice of each support tensor of each layer, grey where it is none.{said}",
        spec(rows, **cells | {"layer": [*cells["layer"], dots]}),
    )
