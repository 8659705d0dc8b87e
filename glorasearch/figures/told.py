"""What a report says in words: the final table, metrics, provenance, and how the run is repeated."""

from __future__ import annotations

import json
import shlex

from glorasearch.db import RunRecord, RunState
from glorasearch.errors import GlorasearchError
from glorasearch.figures.facts import RunFacts, origin
from glorasearch.quantities import percent
from glorasearch.redact import redact
from glorasearch.runs.method_rows import MethodRow, method_rows
from glorasearch.runs.metric_rows import metric_rows
from glorasearch.runs.results import Errors, Report, TestResult
from glorasearch.runs.toml_text import toml_key, toml_value
from glorasearch.statistics.chance import LEAST_SCORES
from glorasearch.statistics.intervals import mean_interval, wilson
from glorasearch.tasks.kinds import words_of


def table(report: Report, tested: TestResult | None) -> list[tuple[str, str, str, str]]:
    """Method, parameters, test score and its 95 % interval, of each method; means over subnets have none.

    Of accuracies Wilson's, of mean squared errors Student's, over those of the images, which `tested` has.
    """
    images, right = report.splits.test.images, words_of(report.splits.task).right_or_wrong
    found = []
    for row in method_rows(report):
        said, interval = "-" if row.error is None else f"squared error {row.error:.3f}", "-"
        if right and row.accuracy is not None:
            said = percent(row.accuracy)
            low, high = wilson(round(row.accuracy * images), images)
            interval = "-" if row.mean else f"{100 * low:.1f} to {100 * high:.1f} %"
        elif tested is not None and (errors := _errors(tested, row)) is not None:
            ends = mean_interval(errors.each())
            interval = "-" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"
        found.append((row.label, f"{row.parameters:,.0f}", said, interval))
    return found


def _errors(tested: TestResult, row: MethodRow) -> Errors | None:
    """The squared errors of the images that the error of a row is the mean of."""
    if row.mean:
        return None
    if row.baseline is not None:
        return tested.baselines_errors.get(row.baseline)
    return tested.errors if row.exported else tested.errors_inherited


def said(report: Report) -> list[str]:
    """What can be said of the run, what cannot, and what merging costs."""
    found = list(report.statements)
    if report.chance is None and not report.fixed_method and report.point is None:
        found.append(
            "Whether the search beat chance was not judged: that takes scores of at least "
            f"{LEAST_SCORES} random subnets (report.chance_subnets)."
        )
    return found if report.latency is None else [*found, f"{report.latency.sentence.capitalize()}."]


def metrics(report: Report) -> list[tuple[str, ...]]:
    """Metric, winner, 95 % interval, and each baseline, with a heading; empty if there are none."""
    rows = [(row.label, row.value, row.interval, *row.others) for row in metric_rows(report)]
    return [("metric", "winner", "95 % interval", *report.baselines), *rows] if rows else []


def run_files(facts: RunFacts) -> list[tuple[str, str]]:
    """Name and content of the run files that repeat a run: of the runs that it takes over from, and its own."""
    return [(f"{record.name}.toml", run_file(record)) for record in (*facts.origins, facts.record)]


def commands(facts: RunFacts) -> list[str]:
    """What goes on with a run, repeats it in another workspace, and checks it."""
    record, whole = facts.record, (*facts.origins, facts.record)
    found = []
    if record.state is not RunState.FINISHED and not facts.watched.under_way:
        found.append(f"glorasearch run {shlex.quote(record.name)}  # goes on where it ended")
    lost = origin(whole[0])
    if lost is not None:
        found.append(f"# run {lost!r}, from which {whole[0].name!r} takes over, is gone: it has to be there first")
    for one in whole:
        file = shlex.quote(f"{one.name}.toml")
        found.append(f"glorasearch run {file} --workspace repeated  # the run file of that name below")
    if record.state is RunState.FINISHED:
        found.append(f"glorasearch verify {shlex.quote(record.name)}  # whether all that it made is as it was")
    return found


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
        table = content if isinstance(content, dict) else {}
        lines = [f"{toml_key(key)} = {toml_value(value)}" for key, value in table.items() if value not in (None, {})]
        top += ["", f"[{toml_key(section)}]", *lines] if lines else []
    return redact("\n".join(top) + "\n")


def provenance(facts: RunFacts) -> list[tuple[str, str]]:
    """Digests, seed, what the run is made of, versions."""
    report, record = facts.report, facts.record
    found = [("configuration digest", record.digest), ("seed", str(record.config.get("seed", "")))]
    for label, key in (("backbone", "name"), ("data", "source"), ("space", "name")):
        table = record.config.get(label)
        if isinstance(table, dict) and key in table:
            found.append((label, redact(str(table[key]))))
    for stage, result in record.stages.items():
        if "weights" in result:
            found.append((f"weights of {stage}", str(result["weights"])))
    if report is not None:
        splits = report.splits
        for name, one in (("train", splits.train), ("search", splits.search), ("test", splits.test)):
            found.append((f"{name} split", one.digest))
        found += sorted(report.versions.items())
    return found
