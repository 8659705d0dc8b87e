"""The tables that a run writes beside its report: what it says of each test image, and the files of its splits."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from glorasearch.data import Splits
from glorasearch.errors import RunError
from glorasearch.evaluation import TestOutputs
from glorasearch.runs.files import PREDICTIONS, SPLITS
from glorasearch.tasks import Regress
from glorasearch.weights.atomic import ROOM, replace_file

SIGNIFICANT: Final = 6
"""Digits of a probability: those that float32 has."""


def write_tables(folder: Path, splits: Splits, outputs: TestOutputs, temperature: float = 1.0) -> dict[str, str]:
    """Write `predictions.csv` and `splits.csv` to a folder; gives the SHA-256 of each.

    Args:
        folder: of the run.
        splits: names the files of their images.
        outputs: what the winner says of the test images.
        temperature: what its logits are divided by before they become probabilities.

    Raises:
        RunError: naming the file that cannot be written, and the remedy.
    """
    names, task = splits.class_names, splits.test.task
    shares = task.said(outputs.logits, temperature).tolist()
    predicted, labels = outputs.predicted.tolist(), splits.test.labels.tolist()
    asked = zip(splits.files["test"], labels, predicted, shares, strict=True)
    predictions = (
        [file, task.written(label, names), task.written(found, names), *(f"{share:.{SIGNIFICANT}g}" for share in row)]
        for file, label, found, row in asked
    )
    parts = (("train", splits.train), ("search", splits.search), ("test", splits.test))
    files = (
        [role, file, task.written(label, names)]
        for role, split in parts
        for file, label in zip(splits.files[role], split.labels.tolist(), strict=True)
    )
    header = ["file", "label", "predicted", *(f"probability of {name}" for name in names)]
    if isinstance(task, Regress):
        header = ["file", *names, *(f"predicted {name}" for name in names)]
        rows = zip(splits.files["test"], splits.test.labels.numpy(), outputs.logits.numpy(), strict=True)
        predictions = ([file, *task.in_digits(wanted), *task.in_digits(found)] for file, wanted, found in rows)
    return {
        PREDICTIONS: _write(folder / PREDICTIONS, header, predictions),
        SPLITS: _write(folder / SPLITS, ["split", "file", "label"], files),
    }


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    content = text.getvalue().encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}; {ROOM}") from error
    return hashlib.sha256(content).hexdigest()
