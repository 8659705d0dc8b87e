"""`glorasearch report`."""

from __future__ import annotations

from pathlib import Path

import click

from glorasearch.cli.options import json_option, workspace_options
from glorasearch.terminal import say


@click.command("report")
@click.argument("run")
@workspace_options
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html",
              help="Where to.  [default: report.html in the run's folder]")  # fmt: skip
@click.option("--png", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
              help="Write each figure there as well, light and dark.")  # fmt: skip
@click.option("--pdf", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.pdf", help="Write a PDF as well.")
@json_option
def command(
    run: str,
    workspace: str,
    database: str | None,
    output: Path | None,
    png: Path | None,
    pdf: Path | None,
    as_json: bool,
) -> None:
    """Write what is known of RUN into one HTML file that needs no network: result, provenance, all figures."""
    from glorasearch.cli.output import echo_json
    from glorasearch.errors import InputError
    from glorasearch.runs.files import check_writable
    from glorasearch.runs.workspace import Workspace
    from glorasearch.weights.atomic import replace_file

    found = Workspace.open(workspace, database, create=False)
    found.require_runs([run])
    folder = found.run_folder(run)
    target = output or folder / "report.html"
    if pdf is not None and pdf.resolve() == target.resolve():
        raise InputError(f"--output and --pdf are both {pdf}: give two files")
    places = {"--output": target, "--pdf": pdf, "--png": None if png is None else png / "front-light.png"}
    for option, file in places.items():
        if file is not None and file.exists() and not file.is_file():
            raise InputError(f"{option}: {file} is no file that can be replaced; give another one")
        if file is not None:
            check_writable(file, option)
            file.parent.mkdir(parents=True, exist_ok=True)
    say(f"{run}: drawing its figures", err=True)
    from glorasearch.figures import RunFacts, draw, figures_of, lacking
    from glorasearch.figures.html import html_report
    from glorasearch.figures.paper import pdf_report

    facts = RunFacts.read(found.runs.database, run, folder if folder.is_dir() else None)
    figures = figures_of(facts)
    missing = lacking(facts, figures)
    replace_file(target, html_report(facts, figures, missing).encode())
    written = [str(target)]
    if pdf is not None:
        replace_file(pdf, pdf_report(facts, figures, missing))
        written.append(str(pdf))
    for figure in figures if png is not None else ():
        for look in ("light", "dark"):
            picture = Path(str(png)) / f"{figure.key}-{look}.png"
            replace_file(picture, draw(figure, "png", look))
            written.append(str(picture))
    if as_json:
        echo_json({"run": run, "state": facts.record.state, "files": written, "lacking": missing,
                   "figures": [figure.key for figure in figures]})  # fmt: skip
        return
    say(f"{target}: {len(figures)} figures")
    for other in (pdf, png):
        if other is not None:
            say(str(other))
    for line in missing:
        say(f"lacks {line}")
