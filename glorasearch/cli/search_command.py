"""`glorasearch search`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from glorasearch.cli.options import executor_options, run_file_options


@click.command("search")
@run_file_options
@executor_options
def command(config: Path, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Search the best subnet of the trained supernet, on the search split."""
    from glorasearch.cli.stage import run_stage

    run_stage("search", config, overrides, as_json, **options)
