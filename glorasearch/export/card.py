"""The model card that is written beside an exported model."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from glorasearch.export.card_formats import introduction, loading
from glorasearch.export.example import example
from glorasearch.export.front_matter import front_matter
from glorasearch.space import SUPPORT_TENSORS, Subnet, parse_choice
from glorasearch.tasks.kinds import words_of

MOST_OUTPUTS: Final = 50
"""Labels or targets that the card has a row for."""
_MERGED = (
    "A plain timm model: the adapters that were trained for its layers are merged into the weights. It has the "
    "architecture, the size and the speed of its backbone, and needs timm only."
)
_SEVERAL = (
    "An image has any number of the labels: the sigmoid of each output is the probability that it has that one. "
    "`test_accuracy` is the share of images of which all labels are right, those above one half being said."
)

_NUMBERS = (
    "Outputs are numbers in the targets' own units: the mean and the deviation of the training targets are part of the "
    "head. `squared_error` is of standardised targets, 1 being that of their mean; `test_mae` and `test_rmse` are in "
    "the targets' units."
)


def model_card(
    config: Mapping[str, Any], subnet: Subnet, *, format: str = "timm", base_model: str | None = None
) -> str:
    """README.md of an export with that `config.json`: how to load it, its metrics, choices and provenance.

    That of a `format` beside timm's is made of its manifest, which is also the value of `glorasearch` then;
    `base_model` is the backbone's name on the Hugging Face hub.
    """
    cfg, own = config["pretrained_cfg"], config["glorasearch"]
    channels, height, width = cfg["input_size"]
    task = own.get("task", "classify")
    classes = f"{config['num_classes']} {words_of(task).outputs}"
    if "label_names" in config:
        names = [_plain(str(name)) for name in config["label_names"]]
        classes += ": " + ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    sections = [
        front_matter(config, format, base_model),
        f"# {config['architecture']}, {_adapted(subnet)}",
        _MERGED if format == "timm" else introduction(format, own),
        f"## How to use\n\n```python\n{_example(config) if format == 'timm' else loading(format, own)}\n```",
        *(f"Note: {note}." for note in own.get("notes", ())),
        f"Input: {channels} x {height} x {width}, mean {cfg.get('mean')}, std {cfg.get('std')}. Output: {classes}.",
        _reading(own.get("reading"), channels),
        {"multilabel": _SEVERAL, "regress": _NUMBERS}.get(task, ""),
        _temperature(own["metrics"], "sigmoid" if task == "multilabel" else "softmax"),
        _section("Metrics", _table("metric", "value", _flat(_whole(own["metrics"])))),
        *(_outputs(own["metrics"], f"test_by_{output}", output) for output in ("target", "label")),
        _section("What can be said", "\n".join(f"- {_plain(statement)}" for statement in own["statements"])),
        _section("Choices", _choices(subnet)),
        _section("Provenance", _table("", "", _flat(own["provenance"]))),
        "The choice of every layer and support tensor is in "
        + ("`config.json`, under `glorasearch`." if format == "timm" else "`glorasearch.json`."),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _reading(reading: Mapping[str, Any] | None, channels: int) -> str:
    """What was done to an image file before the transform, which timm's own data sets do not do."""
    before = []
    if reading is not None and reading["exif"]:
        before.append("turned upright as their EXIF says, by `PIL.ImageOps.exif_transpose`")
    if reading is not None and reading["pixel_range"] is not None:
        low, high = reading["pixel_range"]
        before.append(f"brought to 8 bits, {low:g} being black and {high:g} white, where a pixel has more")
    before.append("converted to grayscale" if channels == 1 else "converted to RGB, also grayscale and palette images")
    return f"Before the transform images were {', then '.join(before)}."


def _example(config: Mapping[str, Any]) -> str:
    """The program of `example` for that `config.json`."""
    own, channels = config["glorasearch"], config["pretrained_cfg"]["input_size"][0]
    named, temperature = "label_names" in config, own["metrics"].get("temperature")
    return example(channels, own.get("reading"), named, temperature, own.get("task", "classify"))


def _temperature(metrics: Mapping[str, Any], function: str) -> str:
    """How outputs become probabilities that can be believed."""
    if "temperature" not in metrics:
        return ""
    text = (
        f"Outputs are logits. Divided by the temperature {metrics['temperature']:.3g}, which held-out images gave, "
        f"before the {function}"
    )
    errors = [metrics.get(f"test_calibration_error{at}") for at in ("", "_tempered")]
    if None in errors:
        return f"{text} they are probabilities."
    plain, tempered = errors
    return f"{text} their expected calibration error on the test split is {tempered:.3f}; as they are, {plain:.3f}."


def _whole(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Those of all outputs together."""
    return {name: value for name, value in metrics.items() if not name.startswith("test_by_")}


def _outputs(metrics: Mapping[str, Any], key: str, output: str) -> str:
    """The metrics of each target or label on the test images; none of very many."""
    rows = metrics.get(key) or {}
    if not 0 < len(rows) <= MOST_OUTPUTS:
        return ""
    columns = list(dict.fromkeys(name for values in rows.values() for name in values))
    lines = [f"| {output} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, values in rows.items():
        cells = (f"{values[column]:.6g}" if column in values else "" for column in columns)
        lines.append(f"| {_cell(_plain(str(name)))} | {' | '.join(cells)} |")
    return _section(f"Each {output}", "\n".join(lines))


def _adapted(subnet: Subnet) -> str:
    """What was done to the backbone: the choice classes that the winner uses, by name."""
    *others, last = sorted({parse_choice(choice).name for _, choice in subnet.items()} - {"none"}) or [
        "a new head alone"
    ]
    return f"adapted with {', '.join(others)}{' and ' * bool(others)}{last}"


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _choices(subnet: Subnet) -> str:
    counts: dict[str, Counter[str]] = {tensor: Counter() for tensor in SUPPORT_TENSORS}
    for (_, tensor), choice in subnet.items():
        counts[tensor][choice] += 1
    rows = {
        tensor: ", ".join(f"`{choice}` in {number}" for choice, number in sorted(counter.items()))
        for tensor, counter in counts.items()
        if counter
    }
    return _table("support tensor", "layers with each choice", rows.items())


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and text of every value, nested objects flattened."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _plain(value)
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)


def _plain(text: str) -> str:
    """A text that Markdown and HTML show as it is, in one line."""
    return re.sub(r"([\\`*<>\[\]])", r"\\\1", " ".join(text.split()))


def _table(left: str, right: str, rows: Any) -> str:
    lines = [f"| {_cell(key)} | {_cell(value)} |" for key, value in rows]
    return "\n".join([f"| {left} | {right} |", "|---|---|", *lines]) if lines else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
