"""`glorasearch train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from glorasearch.cli.options import executor_options, run_file_options


@click.command("train")
@run_file_options
@executor_options
def command(config: Path, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Train the supernet of a run file and store its weights."""
    from glorasearch.cli.stage import run_stage

    run_stage("train", config, overrides, as_json, **options)
