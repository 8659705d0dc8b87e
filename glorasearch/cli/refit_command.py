"""`glorasearch refit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from glorasearch.cli.options import run_file_options


@click.command("refit")
@run_file_options
def command(config: Path, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Train the winner of the search alone on train + search."""
    from glorasearch.cli.stage import run_stage

    run_stage("refit", config, overrides, as_json, **options)
