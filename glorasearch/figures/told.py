"""What a report says in words: the final table, provenance, and how the run is repeated."""

from __future__ import annotations

import json

from glorasearch.db import RunRecord
from glorasearch.errors import GlorasearchError
from glorasearch.figures.facts import RunFacts
from glorasearch.redact import redact
from glorasearch.runs.method_rows import method_rows
from glorasearch.runs.results import Report
from glorasearch.runs.toml_text import toml_key, toml_value
from glorasearch.statistics.intervals import wilson
from glorasearch.tasks.kinds import words_of


def table(report: Report) -> list[tuple[str, str, str, str]]:
    """Method, parameters, test score and its 95 % interval, of each method; means and squared errors have none."""
    images, right = report.splits.test.images, words_of(report.splits.task).right_or_wrong
    found = []
    for row in method_rows(report):
        said, interval = "-" if row.error is None else f"squared error {row.error:.3f}", "-"
        if right and row.accuracy is not None:
            said = f"{row.accuracy:.1%}"
            low, high = wilson(round(row.accuracy * images), images)
            interval = "-" if row.mean else f"{100 * low:.1f} to {100 * high:.1f} %"
        found.append((row.label, f"{row.parameters:,.0f}", said, interval))
    return found


def commands(name: str) -> list[str]:
    """What repeats and checks a run; its run file is saved as `run.toml`."""
    return ["glorasearch run run.toml  # the run file below, in another workspace", f"glorasearch verify {name}"]


def run_file(record: RunRecord) -> str:
    """The run file that a recorded configuration stands for, as TOML."""
    from glorasearch.runs.remembered import given_config

    try:
        config = given_config(record.config, f"run {record.name!r}")
    except (GlorasearchError, KeyError, TypeError, ValueError):
        return "# another version of glorasearch recorded this run; its configuration, as JSON:\n" + redact(
            json.dumps(record.config, indent=2)
        )
    given = config.model_dump(mode="json", exclude_unset=True)
    top = [
        f"{toml_key(key)} = {toml_value(value)}" for key, value in given.items() if not isinstance(value, dict | None)
    ]
    for section, content in given.items():
        if isinstance(content, dict):
            top += ["", f"[{toml_key(section)}]"]
            top += [f"{toml_key(key)} = {toml_value(value)}" for key, value in content.items() if value is not None]
    return redact("\n".join(top) + "\n")


def provenance(facts: RunFacts) -> list[tuple[str, str]]:
    """Digests, seed, data and versions."""
    report, record = facts.report, facts.record
    found = [("configuration digest", record.digest), ("seed", str(record.config.get("seed", "")))]
    for stage, result in record.stages.items():
        if "weights" in result:
            found.append((f"weights of {stage}", str(result["weights"])))
    if report is not None:
        splits = report.splits
        found.append(("data", splits.source))
        for name, one in (("train", splits.train), ("search", splits.search), ("test", splits.test)):
            found.append((f"{name} split", one.digest))
        found += sorted(report.versions.items())
    return found
