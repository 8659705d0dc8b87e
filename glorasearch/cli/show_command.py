"""`glorasearch show`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from glorasearch.cli.options import json_option, workspace_options
from glorasearch.terminal import say

if TYPE_CHECKING:
    from glorasearch.db import Metric, RaceMember

_DIGESTS = ("weights", "digest", "split", "key")
"""Fields that are shown shortened."""


@click.command("show")
@click.argument("run")
@workspace_options
@json_option
def command(run: str, workspace: str, database: str | None, as_json: bool) -> None:
    """Show RUN: its state, the results of its stages, its last measurements, and its report when it is finished."""
    from glorasearch.cli.output import echo_json
    from glorasearch.cli.report_table import print_report
    from glorasearch.db import RaceStore
    from glorasearch.runs.curves import opening
    from glorasearch.runs.results import Results
    from glorasearch.runs.workspace import Workspace

    found = Workspace.open(workspace, database, create=False)
    (record,) = found.require_runs([run])
    metrics, curves = found.runs.metrics(run), found.run_files(run).curves
    if as_json:
        echo_json(
            {
                "run": record.name,
                "state": record.state,
                "error": record.error,
                "config": record.config,
                "curves": str(curves) if curves.is_dir() else None,
                "stages": record.stages,
                "metrics": [asdict(metric) for metric in metrics],
                "race_members": [_member(member) for member in RaceStore(found.runs.database).list(run)],
            }
        )
        return
    say(f"run {record.name}: {record.state}{f' ({record.error})' if record.error else ''}")
    for stage, result in record.stages.items():
        if stage != "report":
            say(f"  {stage:<24} {_brief(result)}")
    for stage, step, values in _latest(metrics):
        say(f"  {stage:<24} step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
    if curves.is_dir():
        say(f"curves: {opening(curves)}")
    report = Results(record.stages, record.name).report
    if report is not None:
        print_report(report)


def _member(member: RaceMember) -> dict[str, Any]:
    """A training of the race, also of one that has not finished."""
    content = asdict(member)
    del content["nats"]
    return content


def _brief(result: Mapping[str, Any]) -> str:
    shown = {
        key: f"{value:.4g}" if isinstance(value, float) else value[:12] if key in _DIGESTS else value
        for key, value in result.items()
        if not isinstance(value, (dict, list)) and value is not None
    }
    return json.dumps(shown)[1:-1].replace('"', "")


def _latest(metrics: Sequence[Metric]) -> list[tuple[str, int, dict[str, float]]]:
    """The last value of each metric of each stage, with the last step."""
    steps: dict[str, int] = {}
    values: dict[str, dict[str, float]] = {}
    for metric in metrics:
        steps[metric.stage] = max(steps.get(metric.stage, 0), metric.step)
        values.setdefault(metric.stage, {})[metric.name] = metric.value
    return [(stage, step, values[stage]) for stage, step in steps.items()]
