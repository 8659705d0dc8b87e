"""`glorasearch quickstart`."""

from __future__ import annotations

from typing import Any

import click

from glorasearch.cli.options import executor_options, json_option, place_options, quiet_option, store_option


@click.command("quickstart")
@place_options
@store_option
@executor_options
@json_option
@quiet_option
@click.option("--fresh", is_flag=True, help="Forget an earlier quickstart in this workspace, and start over.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override, such as search.trials=50.")
def command(as_json: bool, overrides: tuple[str, ...], **options: Any) -> None:
    """Adapt the small shipped vision transformer (Fashion-MNIST) to handwritten digits: the whole job, on a CPU."""
    from glorasearch.assets import quickstart_run_file
    from glorasearch.cli.report_table import print_report
    from glorasearch.cli.wiring import echo_json, execute
    from glorasearch.runs.config import RunConfig

    report = execute(RunConfig.load(quickstart_run_file(), overrides), **options)
    echo_json(report) if as_json else print_report(report)
