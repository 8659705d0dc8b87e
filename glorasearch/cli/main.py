"""The `glorasearch` command: a table of subcommands, each imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from glorasearch import __version__
from glorasearch.cli.termination import Terminated, interrupt_on_sigterm
from glorasearch.errors import GlorasearchError

COMMANDS: dict[str, str] = {
    "quickstart": "Run the whole job on a small shipped model and data set.",
    "run": "Run all stages of a run file: train, search, refit, export, report.",
    "train": "Train the supernet of a run file.",
    "search": "Search the best subnet of a trained supernet.",
    "refit": "Train the winner alone on train + search.",
    "export": "Export the winner as a merged timm model.",
    "runs": "List the runs of a workspace.",
    "show": "Show one run: stages, scores, curves.",
    "compare": "Compare runs: parameters, accuracy with confidence interval, seconds, adapter size.",
    "space": "Show what a search space offers on a backbone.",
    "sweep": "Run a run file for many tasks, one run each, here or on a Ray cluster.",
    "submit": "Send a run file to a Ray cluster as a job, and follow it.",
    "status": "Show the jobs of a Ray cluster, or those of one run.",
    "stop": "Stop a run's job on a Ray cluster.",
    "init": "Write a commented run file.",
    "dashboard": "Serve the Optuna dashboard over the workspace's database.",
}


class _LazyGroup(click.Group):
    """Knows names and one-line helps; imports a command's module only to call it or to show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"glorasearch.cli.{cmd_name}_command").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    help="Find the best parameter-efficient adapter for every layer of a frozen timm model, and merge it away.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, prog_name="glorasearch")
def group() -> None:
    """All commands."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, SIGTERM being an interruption too.

    Exit codes: 0 success, 1 the job failed, 2 wrong usage or input, 130 interrupted, 143 terminated by SIGTERM.
    """
    interrupt_on_sigterm()
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """The command line as a function of its arguments to its exit code."""
    try:
        outcome: Any = group.main(args=arguments, prog_name="glorasearch", standalone_mode=False)
    except GlorasearchError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:
        terminated = isinstance(stop.__cause__ or stop, Terminated)  # click makes an Abort of every KeyboardInterrupt
        click.echo(f"{'terminated' if terminated else 'interrupted'}; the same command goes on where it was", err=True)
        return 143 if terminated else 130
    return outcome if isinstance(outcome, int) else 0


if __name__ == "__main__":
    main()
