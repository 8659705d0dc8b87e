"""One line of the table of speeds, the table itself, and the file that it is kept in."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peaks import peak_of

PACKAGES = ("torch", "timm", "peft", "optuna", "sqlalchemy", "numpy")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A speed, what it is compared with in the same run, and how far it may go."""

    what: str
    measured: float
    unit: str
    reference: float | None = None
    """Measured in the same run, in the same unit; None where the target is an absolute one."""
    target: float | None = None
    """The largest ratio to the reference, or the largest value where there is no reference; None: no target."""
    least: float | None = None
    """Where more is better, in place of a target: the smallest ratio to the reference."""
    note: str = ""
    """What has to be known to read the figure."""
    flops: float | None = None
    """Useful arithmetic of what was measured, in FLOP (`arithmetic`); None where nobody counts it."""
    reference_flops: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else the file has of it."""

    @property
    def ratio(self) -> float | None:
        """Measured over reference."""
        return None if self.reference is None else self.measured / self.reference

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if self.least is not None and self.ratio is not None:
            return self.ratio >= self.least
        if self.target is None:
            return None
        return (self.measured if self.ratio is None else self.ratio) <= self.target

    def shares(self, peak: float | None) -> tuple[float | None, float | None]:
        """What share of a card's peak, in FLOP/s, the figure and its reference reach; they are milliseconds."""
        pairs = (self.flops, self.measured), (self.reference_flops, self.reference)
        first, second = (None if not (work and ms and peak) else work / (ms / 1e3) / peak for work, ms in pairs)
        return first, second

    def to_dict(self, peak: float | None = None) -> dict[str, Any]:
        """The row as JSON data."""
        share, reference = self.shares(peak)
        more = {"ratio": self.ratio, "holds": self.holds, "share_of_peak": share, "reference_share_of_peak": reference}
        unknown = ("least", "share_of_peak", "reference_share_of_peak", "flops", "reference_flops")
        fields = asdict(self) | more
        fields |= fields.pop("more")
        return {key: value for key, value in fields.items() if key not in unknown or value is not None}


def print_table(rows: Iterable[Row], peak: float | None = None) -> None:
    """what | measured | reference in the same run | ratio | target | holds; and share of the card's `peak`, FLOP/s, the
    reference's in parentheses, if any row has one."""
    rows = list(rows)
    heads: tuple[str, ...] = ("what", "measured", "reference", "ratio", "target", "holds")
    cells = [_cells(row) for row in rows]
    shares = [_shares(row, peak) for row in rows]
    if any(shares):
        heads = (*heads, "of bf16 peak")
        cells = [(*line, share) for line, share in zip(cells, shares, strict=True)]
    widths = [max(len(line[column]) for line in (heads, *cells)) for column in range(len(heads))]
    for line in (heads, tuple("-" * width for width in widths), *cells):
        first, *others = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        print(f"| {first} | " + " | ".join(others) + " |")


def _cells(row: Row) -> tuple[str, ...]:
    target = "" if row.target is None else f"<= {row.target:g} {row.unit if row.ratio is None else 'x'}"
    return (
        row.what + (f" ({row.note})" if row.note else ""),
        f"{row.measured:.4g} {row.unit}",
        "" if row.reference is None else f"{row.reference:.4g} {row.unit}",
        "" if row.ratio is None else f"{row.ratio:.3f}",
        target if row.least is None else f">= {row.least:g} x",
        {True: "yes", False: "NO", None: ""}[row.holds],
    )


def _shares(row: Row, peak: float | None) -> str:
    own, reference = row.shares(peak)
    return ("" if own is None else f"{own:.2f}") + ("" if reference is None else f" ({reference:.2f})")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": commit.stdout.strip() or None,
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "gpu": _gpu_name(),
        "bf16_peak_flops": peak_of(_gpu_name()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name)) is not None},
    }


def write_json(path: Path, rows: Sequence[Row], **more: Any) -> None:
    """Write rows, the machine, and whatever else belongs to them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = machine()
    peak = about["bf16_peak_flops"]
    content = {"machine": about, **more, "rows": [row.to_dict(peak) for row in rows]}
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    part.replace(path)


def finish(rows: Iterable[Row], options: argparse.Namespace, **more: Any) -> list[Row]:
    """Print the rows and, if `options.json` says where, write them: how a benchmark that is run alone ends.

    Rows that come one after another are written after each, so that a benchmark that is cut off has lost nothing. The
    table is printed, too, when one breaks.
    """
    found: list[Row] = []
    try:
        for row in rows:
            found.append(row)
            if not isinstance(rows, Sequence):
                cells = *_cells(row), _shares(row, peak_of(_gpu_name()))
                print(" | ".join(cell for cell in cells if cell), flush=True)
            if options.json is not None:
                write_json(options.json, found, **more)
    finally:
        print_table(found, peak_of(_gpu_name()))
    return found


def json_option(parser: argparse.ArgumentParser) -> None:
    """`--json PATH`."""
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")


def names_option(parser: argparse.ArgumentParser, flag: str, there: Collection[str]) -> None:
    """An option of names with commas between them, each of `there`; all of them by default."""

    def names(text: str) -> list[str]:
        given = text.split(",")
        unknown = [name for name in given if name not in there]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {unknown[0]!r}; there are {', '.join(there)}")
        return given

    parser.add_argument(flag, type=names, default=list(there), help=", ".join(there))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a machine for measuring need not have all of them
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
