"""`glorasearch init`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from glorasearch.errors import ConfigError


@click.command("init")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), default=Path("run.toml"))
@click.option("--backbone", default="vit_base_patch16_224.augreg_in21k", show_default=True, help="timm name.")
@click.option("--data", default="folder:./images", show_default=True, help="Data source.")
@click.option("--space", default="glora_medium", show_default=True, help="Search space.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
def command(path: Path, backbone: str, data: str, space: str, force: bool) -> None:
    """Write a commented run file to PATH."""
    from glorasearch.runs.template import render

    if path.exists() and not force:
        raise ConfigError(f"{path} already exists; give another path, or --force to overwrite it")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-") or "run"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(name, backbone, data, space), "utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; give another path") from error
    click.echo(f"wrote {path}; edit it, then: glorasearch run {path}")
