"""The tables of what works with which family, made from the stored results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from family_parts.trial import Outcome

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "docs" / "families.json"
PAGE: Final = ROOT / "docs" / "families.md"
README: Final = ROOT / "README.md"
BEGIN, END = "<!-- families -->", "<!-- /families -->"


def stored() -> tuple[str, str, list[Outcome]]:
    """timm's version, the search space, and the outcomes."""
    content = json.loads(RESULTS.read_text("utf-8"))
    return content["timm"], content["space"], [Outcome.from_dict(one) for one in content["families"]]


def summary() -> str:
    """One sentence for README."""
    version, space, outcomes = stored()
    failed = [one for one in outcomes if one.problem]
    text = (
        f"With {space}, {len(outcomes) - len(failed)} of the {len(outcomes)} families of timm {version}, a small model "
        "each,\nstart as their backbone, train, and are merged, exported and loaded by timm again with the same outputs"
    )
    exceptions = "; ".join(f"`{one.family}`: {one.problem}" for one in failed)
    return f"{text}{f' (not {exceptions})' if failed else ''}: [the table](docs/families.md)."


def table() -> str:
    """The table of the page."""
    _, _, outcomes = stored()
    rows = [
        "| family | model | layers adapted | of them read, not called | largest difference | |",
        "|---|---|--:|--:|--:|---|",
    ]
    for one in outcomes:
        if one.problem:
            rows.append(f"| {one.family} | `{one.model}` | | | | {one.problem.replace('|', '/')} |")
        else:
            read = one.read or ""
            rows.append(
                f"| {one.family} | `{one.model}` | {one.layers} of {one.of} | {read} | {one.difference:.0e} | works |"
            )
    return "\n".join(rows)


def write_tables() -> None:
    """Put the sentence into README and the table into the page, between their marks."""
    for path, text in ((README, summary()), (PAGE, f"{summary().rpartition(': [')[0]}.\n\n{table()}")):
        before, _, rest = path.read_text("utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")
