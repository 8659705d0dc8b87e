"""`glorasearch export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from glorasearch.cli.options import run_file_options


@click.command("export")
@run_file_options
def command(config: Path, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Export the refitted winner as a merged timm model."""
    from glorasearch.cli.stage import run_stage

    run_stage("export", config, overrides, as_json, **options)
