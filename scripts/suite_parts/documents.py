"""What a finished suite writes: `docs/suite.json`, `docs/suite.md`, `docs/suite.svg`, a part of the README."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite_parts.plot import plot
from suite_parts.tables import full, short
from suite_parts.units import write_atomically

BEGIN, END = "<!-- suite: written by scripts/suite.py -->", "<!-- end of suite -->"
HEAD = """# The suite, measured

![winner minus yardstick and race, pair by pair](suite.svg)

[Results](results.md#the-suite) says what the arms are and how to run it; all numbers are in [suite.json](suite.json).

"""


def write_documents(summary: Mapping[str, Any], root: Path) -> None:
    """Write them under a checkout; the README's part stands between two comments."""
    docs = root / "docs"
    docs.mkdir(exist_ok=True)
    write_atomically(docs / "suite.json", json.dumps(summary, indent=1) + "\n")
    command = f"```sh\n{summary['command']}\n```\n\n"
    write_atomically(docs / "suite.md", HEAD + command + full(summary))
    plot(summary, docs / "suite.svg")
    readme = root / "README.md"
    text = readme.read_text("utf-8") if readme.exists() else ""
    part = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if part.search(text):
        write_atomically(readme, part.sub(lambda _: f"{BEGIN}\n{short(summary)}\n{END}", text))
