"""What the commands of single stages have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from glorasearch.cli.wiring import echo_json, execute
from glorasearch.runs.config import RunConfig


def run_stage(stage: str, config: Path, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Run one stage and print its result."""
    result = execute(RunConfig.load(config, overrides), only=stage, **options)
    if as_json:
        echo_json(result)
        return
    for key, value in result.items():
        if not isinstance(value, (dict, list)):
            click.echo(f"{key:<22} {value}")
