"""What a run has written of its curves, read by others: TensorBoard itself, and a reader of CSV."""

from __future__ import annotations

import csv
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Points = dict[str, list[tuple[int, float]]]
"""Name of a curve → step and value of its points, in the order of the file."""


def events(folder: Path) -> Any:
    """TensorBoard's reader of a folder, with all points."""
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no TensorBoard here")
    reader = module.EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    return reader


def event_points(folder: Path) -> Points:
    """All curves of the event files in a folder; float32, as they are there."""
    reader = events(folder)
    return {tag: [(one.step, one.value) for one in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def csv_points(folder: Path, stage: str) -> Points:
    """The curves of a stage by its table, whose name is that of the stage with `-` for `:`."""
    found: Points = {}
    with (folder / f"{stage.replace(':', '-')}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for name, cell in row.items():
                if name not in ("step", "time") and cell:
                    found.setdefault(name, []).append((int(row["step"]), float(cell)))
    return found


def as_float32(points: Points) -> Points:
    """The same with the precision of event files."""
    return {name: [(step, float(np.float32(value))) for step, value in of_name] for name, of_name in points.items()}


def records_of(log: Path) -> Iterator[bytes]:
    """The records of a log file of Weights & Biases: LevelDB's format after a header of 7 bytes."""
    content, at, parts, block = log.read_bytes(), 7, b"", 1 << 15
    while at + 7 <= len(content):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
