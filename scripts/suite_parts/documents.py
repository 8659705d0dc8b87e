"""What a finished suite writes: `docs/suite.json`, `docs/suite.md`, `docs/suite.svg`, a part of the README."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from suite_parts.plot import plot
from suite_parts.tables import full, short
from suite_parts.units import Content, Unit, packed, read_packed, write_atomically

BEGIN, END = "<!-- suite: written by scripts/suite.py -->", "<!-- end of suite -->"


def replaced(root: Path, done: Collection[Unit], keys: Mapping[str, str]) -> str | None:
    """What writing takes away, to be said before: published units that these results do not have.

    Args:
        root: of the checkout.
        done: units that will be written.
        keys: of their tasks.

    Raises:
        ValueError: if what is published is no file of units.
    """
    path = root / "docs" / "suite-units.json"
    old = read_packed(path) if path.exists() else []
    units = [Unit(one["task"], one["seed"], one["arm"]) for one in old if one["key"] == keys.get(one["task"])]
    lost = len(old) - sum(unit in done for unit in units)
    if not lost:
        return None
    return (
        f"--write-docs replaces {path} and the pages beside it: {lost} of its {len(old)} units are not among these "
        "results so far (other tasks, settings, seeds or arms; --units takes over those of the same settings)"
    )


def write_documents(summary: Mapping[str, Any], found: Mapping[Unit, Content], root: Path) -> None:
    """Write `docs/suite*.json` and `docs/suite.svg` of a checkout, and the parts of pages between two comments."""
    docs = root / "docs"
    write_atomically(docs / "suite-units.json", packed(found))
    write_atomically(docs / "suite.json", json.dumps(summary, indent=1) + "\n")
    plot(summary, docs / "suite.svg")
    image = "![winner minus yardstick and race, pair by pair]"
    _replace(
        docs / "suite.md",
        f"{image}(suite.svg)\n\n`{summary['command']}`; all numbers: [suite.json](suite.json), and\n"
        f"[the units that they come from](suite-units.json).\n\n{full(summary)}",
    )
    _replace(root / "README.md", f"{image}(docs/suite.svg)\n\n{short(summary)}\n\n[In full](docs/suite.md).")


def _replace(page: Path, content: str) -> None:
    """Replace the part of a page; a page without one stays as it is."""
    text = page.read_text("utf-8") if page.exists() else ""
    part = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if part.search(text):
        write_atomically(page, part.sub(lambda _: f"{BEGIN}\n{content.strip()}\n{END}", text))
