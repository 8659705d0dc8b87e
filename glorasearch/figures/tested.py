"""The test split: confusion matrix and calibration."""

from __future__ import annotations

from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import DARK, Figure, axis, spec
from glorasearch.figures.predicted import sure_and_right
from glorasearch.statistics.intervals import wilson

_TEXT = 20
"""Classes whose numbers are written into the cells, at most."""
_BINS = 10


def confusion(facts: RunFacts) -> Figure | None:
    """Test images of each class by what they are taken for."""
    tested = facts.tested
    if tested is None or not tested.confusion:
        return None
    count = tested.splits.classes
    names = tested.splits.class_names if len(set(tested.splits.class_names)) == count else ()
    labels = list(names) or [str(number) for number in range(count)]
    of_class: dict[int, int] = {}
    for pair in tested.confusion:
        of_class[pair.label] = of_class.get(pair.label, 0) + pair.images
    values = [
        {"class": labels[pair.label], "prediction": labels[pair.prediction], "images": pair.images,
         "share": pair.images / of_class[pair.label]}
        for pair in tested.confusion
    ]  # fmt: skip
    step = 26 if count <= _TEXT else max(2, 520 // count)
    ticks = {} if count <= 60 else {"axis": {"labels": False, "ticks": False}}
    encoding = {
        "x": axis("prediction", "taken for", "nominal", sort=labels, scale={"domain": labels}, **ticks),
        "y": axis("class", "class", "nominal", sort=labels, scale={"domain": labels}, **ticks),
        "tooltip": [{"field": "class"}, {"field": "prediction", "title": "taken for"}, {"field": "images"},
                    {"field": "share", "title": "of the class", "format": ".1%"}],
    }  # fmt: skip
    color = {"field": "share", "type": "quantitative", "title": "of the class",
             "scale": {"domain": [0, 1], "scheme": "viridis"}, "legend": {"format": "~%"}}  # fmt: skip
    layers: list[dict[str, object]] = [{"mark": "rect", "encoding": {"color": color}}]
    if count <= _TEXT:
        ink = {"condition": {"test": f"datum.share > {DARK}", "value": "#000000"}, "value": "#ffffff"}
        layers.append(
            {"mark": {"type": "text", "fontSize": 10}, "encoding": {"text": {"field": "images"}, "color": ink}}
        )
    return Figure(
        "confusion",
        "What is taken for what",
        f"{tested.splits.test.images:,} test images of {count} classes: rows are classes, columns what the "
        "refitted winner takes "
        "their images for, coloured by the share of the class; pairs that do not occur are empty.",
        spec(values, width={"step": step}, height={"step": step}, encoding=encoding, layer=layers),
    )


def calibration(facts: RunFacts) -> Figure | None:
    """How often predictions are right, against how sure the model is of them."""
    pairs, tested = sure_and_right(facts), facts.tested
    if not pairs or tested is None:
        return None
    several = tested.splits.task == "multilabel"
    what, so, unit = (
        ("probability of a label", "share that has it", "answers")
        if several
        else ("probability of the prediction", "share that is right", "images")
    )
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for chance, right in pairs:
        bins[min(_BINS - 1, int(chance * _BINS))].append((chance, right))
    values = []
    for own in filter(None, bins):
        correct = sum(right for _, right in own)
        low, high = wilson(correct, len(own))
        values.append({"sure": sum(chance for chance, _ in own) / len(own), "right": correct / len(own), "low": low,
                       "high": high, "images": len(own)})  # fmt: skip
    across = axis("sure", what, scale={"domain": [0, 1]}, axis={"format": "~%"})
    hover = [
        {"field": "images", "title": unit},
        *({"field": name, "format": ".1%"} for name in ("sure", "right", "low", "high")),
    ]
    ideal = {
        "data": {"values": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]},
        "mark": {"type": "line", "strokeDash": [4, 4], "opacity": 0.6},
        "encoding": {"x": {"field": "x", "type": "quantitative"}, "y": {"field": "y", "type": "quantitative"}},
    }
    scale = {"domain": [0, 1]}
    layers = [
        ideal,
        {"mark": {"type": "rule", "strokeWidth": 2},
         "encoding": {"x": across, "y": axis("low", so, scale=scale, axis={"format": "~%"}),
             "y2": {"field": "high"}}},
        {"mark": {"type": "point", "filled": True, "opacity": 1},
         "encoding": {"x": across, "y": axis("right", so, scale=scale, axis={"format": "~%"}),
             "tooltip": hover,
                      "size": {"field": "images", "type": "quantitative", "title": unit,
                          "scale": {"type": "sqrt", "range": [30, 260]}}}},
    ]  # fmt: skip
    temperature, images = tested.temperature, tested.splits.test.images
    counted = f"{images:,} test images x {tested.splits.classes} labels" if several else f"{images:,} test images"
    how = "" if temperature is None else f" The logits are divided by {temperature.value:.3g} first."
    return Figure(
        "calibration",
        "Calibration",
        f"{counted} in {_BINS} bins by the {what}; lines: 95 % intervals (Wilson). On the dashed line the model is as "
        f"often right as it says.{how}",
        spec(values, width=320, height=300, layer=layers),
    )
