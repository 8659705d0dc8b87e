"""`glorasearch show`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from io import StringIO
from typing import TYPE_CHECKING, Any

import click

from glorasearch.cli.options import json_option, workspace_options
from glorasearch.cli.standing import WIDTH, age, wrapped
from glorasearch.runs.scores import scores
from glorasearch.terminal import say

if TYPE_CHECKING:
    from glorasearch.db import Metric, RaceMember, RunRecord

_DIGEST = re.compile(r"[0-9a-f]{64}")


@click.command("show")
@click.argument("run")
@workspace_options
@json_option
def command(run: str, workspace: str, database: str | None, as_json: bool) -> None:
    """Show RUN: its state, the results of its stages, its last measurements, and its report when it is finished."""
    from glorasearch.cli.output import echo_json
    from glorasearch.cli.report_table import print_report
    from glorasearch.db import NoteStore, RaceStore
    from glorasearch.plain_console import PlainConsole
    from glorasearch.runs.curves import opening
    from glorasearch.runs.results import Results
    from glorasearch.runs.watched import stage_label
    from glorasearch.runs.workspace import Workspace

    found = Workspace.open(workspace, database, create=False)
    (record,) = found.require_runs([run])
    metrics, curves = found.runs.metrics(run), found.run_files(run).curves
    note, problem = NoteStore(found.database).readable(run)
    if as_json:
        echo_json(
            {
                "run": record.name,
                "state": record.state,
                "error": record.error,
                "note": note or None,
                "config": record.config,
                "curves": str(curves) if curves.is_dir() else None,
                "stages": record.stages,
                "metrics": [asdict(metric) for metric in metrics],
                "race_members": [_member(member) for member in RaceStore(found.runs.database).list(run)],
            }
        )
        return
    say(wrapped(_standing(record), "  "))
    for number, line in enumerate(note.splitlines()):
        say(wrapped(f"  {'' if number else 'note':<16} {line}", " " * 19))
    if problem:
        say(f"the note of run {run} cannot be read: {problem}", err=True)
    for stage, result in record.stages.items():
        if stage != "report":
            say(wrapped(f"  {stage_label(stage):<16} {_brief(result)}", " " * 19))
    for stage, step, values in _latest(metrics):
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        say(wrapped(f"  {stage:<16} step {step}: {numbers}", " " * 19))
    if curves.is_dir():
        say(f"curves: {opening(curves)}")
    report = Results(record.stages, record.name).report
    if report is not None:
        written = StringIO()
        with redirect_stdout(written):
            print_report(report)
        say(wrapped(written.getvalue(), width=max(WIDTH, PlainConsole().width)))


def _standing(record: RunRecord) -> str:
    """State, scores and age of a run."""
    measured = {name.replace("_", " "): value for name, value in scores(record).items() if value is not None}
    known = [
        f"{name} {value:.3f}" if name.endswith("error") else f"{name} {100 * value:.1f} %"
        for name, value in measured.items()
    ]
    state = f"{record.state}{f' ({record.error})' if record.error else ''}"
    return f"run {record.name}: {state}, {', '.join((*known, f'changed {age(record.updated.isoformat())} ago'))}"


def _member(member: RaceMember) -> dict[str, Any]:
    """A training of the race, also of one that has not finished."""
    content = asdict(member)
    del content["nats"], content["judged"]
    return content


def _brief(result: Mapping[str, Any]) -> str:
    shown = {
        key: f"{value:.4g}" if isinstance(value, float) else _cut(value)
        for key, value in result.items()
        if not isinstance(value, (dict, list)) and value is not None
    }
    return json.dumps(shown)[1:-1].replace('"', "")


def _cut(value: Any) -> Any:
    """A value as it is shown: of digests the first digits."""
    return value[:12] if isinstance(value, str) and _DIGEST.fullmatch(value) else value


def _latest(metrics: Sequence[Metric]) -> list[tuple[str, int, dict[str, float]]]:
    """The last value of each metric of each stage, with the last step."""
    steps: dict[str, int] = {}
    values: dict[str, dict[str, float]] = {}
    for metric in metrics:
        steps[metric.stage] = max(steps.get(metric.stage, 0), metric.step)
        values.setdefault(metric.stage, {})[metric.name] = metric.value
    return [(stage, step, values[stage]) for stage, step in steps.items()]
