"""The `glorasearch` command: a table of subcommands, each imported only when it is called."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import click

from glorasearch.choices.plugins import describe, fault_of
from glorasearch.dotted import load_object
from glorasearch.errors import GlorasearchError
from glorasearch.interrupts import Terminated, interrupt_on_signals, is_interrupt
from glorasearch.version import __version__


class Command(NamedTuple):
    """A subcommand that has not been imported."""

    path: str
    """Its dotted name in this package."""
    help: str


COMMANDS: Final[Mapping[str, Command]] = {
    "quickstart": Command("run_commands:quickstart", "Run all stages on a small shipped model and data set."),
    "run": Command("run_commands:run", "Run all stages of a run file: train, search, race, refit, export, report."),
    "train": Command("run_commands:train", "Train the supernet of a run file."),
    "search": Command("run_commands:search", "Search the best subnet of a trained supernet."),
    "race": Command("run_commands:race", "Race the best subnets and the fixed methods, each trained alone."),
    "refit": Command("run_commands:refit", "Train the winner alone on train + search."),
    "export": Command("run_commands:export", "Export the winner as a merged timm model."),
    "runs": Command("runs_command:command", "List the runs of a workspace."),
    "show": Command("show_command:command", "Show one run: stages, scores, curves."),
    "compare": Command(
        "compare_command:command", "Compare runs: parameters, accuracy with confidence interval, seconds, adapter size."
    ),
    "space": Command("space_command:command", "Show what a search space offers on a backbone."),
    "sweep": Command("sweep_command:command", "Run a run file for many tasks, one run each, here or on a Ray cluster."),
    "submit": Command("submit_command:command", "Send a run file to a Ray cluster as a job, and follow it."),
    "status": Command("job_commands:status", "Show the jobs of a Ray cluster, or those of one run."),
    "stop": Command("job_commands:stop", "Stop a run's job on a Ray cluster."),
    "init": Command("init_command:command", "Write a commented run file."),
    "dashboard": Command("dashboard_command:command", "Serve the Optuna dashboard over the workspace's database."),
}


class _LazyGroup(click.Group):
    """Imports the module of a command only to call it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = load_object(f"glorasearch.cli.{COMMANDS[cmd_name].path}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    help="Find the best parameter-efficient adapter for every layer of a frozen timm model, and merge it away.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, prog_name="glorasearch")
def group() -> None:
    """All commands."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; SIGTERM interrupts it as Ctrl+C does.

    Exit codes: 0 success, 1 the run failed, 2 wrong usage or input, 130 interrupted, 143 terminated by SIGTERM.
    """
    interrupt_on_signals()
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
        cause = stop.__cause__ or stop  # click makes an Abort of every KeyboardInterrupt
        if isinstance(cause, KeyboardInterrupt) and not is_interrupt(cause):
            return _outside(cause)
        terminated = isinstance(cause, Terminated)
        click.echo(f"{'terminated' if terminated else 'interrupted'}; run the same command again to resume", err=True)
        return 143 if terminated else 130
    except SystemExit as error:  # no command of ours raises it, so that none has done its work
        return _outside(error)
    except Exception as error:
        if fault_of(error) is None:
            raise
        return _outside(error)
    return outcome if isinstance(outcome, int) else 0


def _outside(error: BaseException) -> int:
    """Report what code from outside has raised; returns the exit code of a failure."""
    fault = fault_of(error)
    if fault is None:
        *_, (frame, line) = traceback.walk_tb(error.__traceback__)
        fault = f"{describe(error)}, is raised by {frame.f_code.co_filename}, line {line}"
    click.echo(f"error: {fault}; nothing is finished but what was said to be", err=True)
    return 1


if __name__ == "__main__":
    main()
