"""`glorasearch init`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from shlex import quote
from typing import Final

import click

from glorasearch.bounded import user_path
from glorasearch.errors import ConfigError
from glorasearch.terminal import say

EXAMPLE_DATA: Final = "folder:./images"
"""The data source of a file that is still to be edited; it need not exist."""


@click.command("init")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), default=Path("run.toml"))
@click.option("--backbone", default="vit_base_patch16_224.augreg_in21k", show_default=True, help="timm name.")
@click.option("--data", default=EXAMPLE_DATA, show_default=True, help="Data source.")
@click.option("--space", default="glora_medium", show_default=True, help="Search space.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
def command(path: Path, backbone: str, data: str, space: str, force: bool) -> None:
    """Write a commented run file to PATH."""
    from glorasearch.runs.config import run_name
    from glorasearch.runs.template import render

    if path.exists() and not force:
        raise ConfigError(f"{path} already exists; give another path, or --force to overwrite it")
    text = render(run_name(path), backbone, data, space)
    _check(text, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; give another path") from error
    say(f"wrote {path}; edit it, then: glorasearch run {quote(str(path))}")


def _check(text: str, path: Path) -> None:
    """Refuse a run file whose search space or folder of images is not there.

    Raises:
        InputError: saying which.
    """
    from glorasearch.runs.config import RunConfig
    from glorasearch.runs.paths import anchored
    from glorasearch.runs.sweep_tasks import PLACEHOLDER

    config = RunConfig.from_dict(anchored(tomllib.loads(text), path.parent), source=str(path))
    config.space.load()
    source = config.data.source
    if source.startswith("folder:") and source != EXAMPLE_DATA and PLACEHOLDER not in source:
        folder = user_path(source.removeprefix("folder:"))
        if not folder.is_dir():
            raise ConfigError(f"--data {source}: no folder {str(folder)!r} beside {path} or in the current directory")
