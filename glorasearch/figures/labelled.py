"""The test split of several labels an image: how well each label is told."""

from __future__ import annotations

from typing import Any, Final

from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import WIDTH, Data, Figure, axis, spec

MOST: Final = 60
"""Labels that are drawn: those that are told worst."""
_MEASURES: Final = ("recall", "precision", "average precision", "area under the ROC curve")


def labels(facts: RunFacts) -> Figure | None:
    """Recall, precision and what no threshold decides, of each label."""
    tested = facts.tested
    if tested is None or tested.splits.task != "multilabel" or not tested.by_class:
        return None
    worst = sorted(tested.by_class, key=lambda one: (one.average_precision or 0.0, one.name))
    values: Data = []
    for one in worst[:MOST]:
        shares = (
            one.correct / one.images,
            one.correct / one.predicted if one.predicted else None,
            one.average_precision,
            one.auc,
        )
        facts_of = {"label": one.name, "images": one.images, "share": one.images / tested.splits.test.images}
        values += [
            facts_of | {"measure": name, "value": share}
            for name, share in zip(_MEASURES, shares, strict=True)
            if share is not None
        ]
    order = [one.name for one in worst[:MOST]]
    kinds = {"field": "measure", "type": "nominal", "title": None, "scale": {"domain": list(_MEASURES)},
             "legend": {"orient": "top"}}  # fmt: skip
    shapes: dict[str, Any] = kinds | {
        "scale": {"domain": list(_MEASURES), "range": ["circle", "square", "diamond", "triangle-up"]}
    }
    prevalence = {
        "mark": {"type": "tick", "thickness": 2, "opacity": 0.8, "color": "#808080"},
        "encoding": {"x": axis("share", None, scale={"domain": [0, 1]})},
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 0.9},
        "encoding": {
            "x": axis("value", "share", scale={"domain": [0, 1]}, axis={"format": "~%"}),
            "color": kinds,
            "shape": shapes,
            "tooltip": [{"field": "label"}, {"field": "measure"}, {"field": "value", "format": ".3"},
                        {"field": "images", "title": "test images with it", "format": ","}],
        },
    }  # fmt: skip
    left = f" The {MOST} of {len(worst)} labels with the least average precision." if len(worst) > MOST else ""
    return Figure(
        "labels",
        "Label by label",
        f"The refitted winner on {tested.splits.test.images:,} test images, the label with the least average precision "
        "on top; a label is said if its probability is above one half. Grey: the share of images that have it, which "
        f"is the average precision of a model that knows nothing; its area would be one half.{left}",
        spec(
            values,
            width=WIDTH - 160,
            height={"step": 24},
            encoding={"y": axis("label", None, "nominal", sort=order, axis={"labelLimit": 220})},
            layer=[prevalence, points],
        ),
    )
