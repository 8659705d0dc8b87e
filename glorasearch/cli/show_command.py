"""`glorasearch show`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from glorasearch.cli.options import json_option, place_options

_DIGESTS = ("weights", "digest", "split")
"""Results of which the first characters are enough for a reader."""


@click.command("show")
@click.argument("run")
@place_options
@json_option
def command(run: str, workspace: str, database: str | None, as_json: bool) -> None:
    """Show RUN: its state, the results of its stages, its last measurements, and its report when it is finished."""
    from glorasearch.cli.report_table import print_report
    from glorasearch.cli.wiring import echo_json, required_runs

    store, (found,) = required_runs(workspace, database, [run])
    metrics = [
        {"stage": row.stage, "step": row.step, "name": row.name, "value": row.value} for row in store.metrics(run)
    ]
    if as_json:
        echo_json(
            {
                "run": found.name,
                "state": found.state,
                "error": found.error,
                "config": found.config,
                "stages": found.stages,
                "metrics": metrics,
            }
        )
        return
    click.echo(f"run {found.name}: {found.state}{f' ({found.error})' if found.error else ''}")
    for stage, result in found.stages.items():
        if stage != "report":
            click.echo(f"  {stage:<24} {_brief(result)}")
    for stage, step, values in _latest(metrics):
        click.echo(f"  {stage:<24} step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
    if "report" in found.stages:
        print_report(found.stages["report"])


def _brief(result: Mapping[str, Any]) -> str:
    shown = {
        key: f"{value:.4g}" if isinstance(value, float) else value[:12] if key in _DIGESTS else value
        for key, value in result.items()
        if not isinstance(value, (dict, list)) and value is not None
    }
    return json.dumps(shown)[1:-1].replace('"', "")


def _latest(metrics: list[dict[str, Any]]) -> list[tuple[str, int, dict[str, float]]]:
    """The last value of each metric of each stage, with the last step."""
    steps: dict[str, int] = {}
    values: dict[str, dict[str, float]] = {}
    for row in metrics:
        steps[row["stage"]] = max(steps.get(row["stage"], 0), row["step"])
        values.setdefault(row["stage"], {})[row["name"]] = row["value"]
    return [(stage, step, values[stage]) for stage, step in steps.items()]
