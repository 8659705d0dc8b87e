"""What a report says in words: the final table, provenance, and how the run is repeated."""

from __future__ import annotations

import json
from typing import Any

from glorasearch.db import RunRecord
from glorasearch.errors import GlorasearchError
from glorasearch.figures.facts import RunFacts
from glorasearch.redact import redact
from glorasearch.runs.results import Report
from glorasearch.statistics.intervals import wilson
from glorasearch.tasks.kinds import words_of


def table(report: Report) -> list[tuple[str, str, str, str]]:
    """Method, parameters, test score and its 95 % interval, of each method; of squared errors without interval."""
    winner = report.winner
    rows = [(name, one.parameters, one.test_accuracy, one.test_error) for name, one in report.baselines.items()]
    inherited = "trained alone" if report.fixed_method else "best of the search, inherited weights"
    rows.append((inherited, report.best_searched.parameters,
                 winner.test_accuracy_inherited, winner.test_error_inherited))  # fmt: skip
    rows.append((f"winner, {winner.name}", winner.parameters, winner.test_accuracy, winner.test_error))
    images, right = report.splits.test.images, words_of(report.splits.task).right_or_wrong
    found = []
    for name, parameters, accuracy, error in rows:
        said, interval = "-" if error is None else f"squared error {error:.3f}", "-"
        if right and accuracy is not None:
            low, high = wilson(round(accuracy * images), images)
            said, interval = f"{accuracy:.1%}", f"{100 * low:.1f} to {100 * high:.1f} %"
        found.append((name, f"{parameters:,}", said, interval))
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
    top = [f"{_key(key)} = {_toml(value)}" for key, value in given.items() if not isinstance(value, dict | None)]
    for section, content in given.items():
        if isinstance(content, dict):
            top += ["", f"[{_key(section)}]"]
            top += [f"{_key(key)} = {_toml(value)}" for key, value in content.items() if value is not None]
    return redact("\n".join(top) + "\n")


def _key(key: str) -> str:
    return json.dumps(key, ensure_ascii=False) if not key.replace("_", "a").isalnum() or not key.isascii() else key


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(one)}" for key, one in value.items() if one is not None) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | str) else repr(value)


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
