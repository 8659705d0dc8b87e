"""`glorasearch compare`."""

from __future__ import annotations

import click

from glorasearch.cli.options import json_option, workspace_options
from glorasearch.terminal import say


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@workspace_options
@json_option
@click.option("--markdown", is_flag=True, help="Print a Markdown table.")
@click.option(
    "--group", is_flag=True, help="One row for runs that differ in their seeds only: mean ± standard deviation."
)
@click.option(
    "--sort",
    type=click.Choice(["method", "parameters", "search", "test", "seconds"]),
    help="Sort rows; accuracies in descending order.  [default: in the order given]",
)
def command(
    runs: tuple[str, ...],
    workspace: str,
    database: str | None,
    as_json: bool,
    markdown: bool,
    group: bool,
    sort: str | None,
) -> None:
    """Compare RUNs of a workspace, one row each; "-" stands for what a run does not have yet.

    \b
    method      the search space
    parameters  trainable parameters of the winner, the head excluded
    search      accuracy on the search split, with the weights of the training; after a search it is that of the best
                of many trials, and so too optimistic; "-" where something else than the search's winner won the race
    tempered    cross-entropy there at the best temperature, and that temperature
    out of fold accuracy in the race of what won it, if there was one
    test        accuracy on the test split, after the refit if there is one
    training    seconds of pilots, training, teachers and refit
    searching   seconds of the search and the race
    bytes       size of the winner's adapters in float32: 4 for each parameter and for each stored number that is not
                trained (directions); head and file header excluded

    Accuracies are given with Wilson's 95 % interval, which covers the sampling of the images; with --group, with the
    standard deviation over the seeds.

    A second table pairs every run with the first one that was tested, on the same test images (difference in points
    with its 95 % interval, McNemar's exact test); with --group every method with the first one, by seed and task
    (Student's interval over the pairs, Wilcoxon's one-sided tests), and with the baselines of its own runs. Where it
    says that no difference can be told, there may still be one. Several p are adjusted after Holm.

    Runs that differ in backbone, data, splits, steps or recipe are compared with a warning for each difference.
    """
    from glorasearch.cli.compare_table import print_markdown, print_table
    from glorasearch.cli.output import echo_json
    from glorasearch.runs.compare import compare
    from glorasearch.runs.workspace import Workspace

    if as_json and markdown:
        raise click.UsageError("--json and --markdown: give one of them")
    records = Workspace.open(workspace, database, create=False).require_runs(runs)
    result = compare(records, group=group, sort=sort)
    if as_json:
        echo_json(result.to_dict())
        return
    (print_markdown if markdown else print_table)(result)
    for warning in result.warnings:
        say(f"warning: {warning}", err=True)
