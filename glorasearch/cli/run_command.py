"""`glorasearch run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from glorasearch.cli.options import executor_options, run_file_options


@click.command("run")
@run_file_options
@executor_options
def command(config: Path, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Run all stages of a run file; the same command goes on where an earlier one was cut off.

    A search space with one subnet is a fixed method: it is trained alone, and nothing is searched.
    """
    from glorasearch.cli.report_table import print_report
    from glorasearch.cli.wiring import echo_json, execute
    from glorasearch.runs.config import RunConfig

    report = execute(RunConfig.load(config, overrides), **options)
    echo_json(report) if as_json else print_report(report)
