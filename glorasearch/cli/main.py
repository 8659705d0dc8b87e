"""The `glorasearch` command: a table of subcommands, each imported only when it is called."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import click

from glorasearch.choices.plugins import fault_of
from glorasearch.cli.faults import check_arguments, exits_are_said, report
from glorasearch.cli.logs import make_plain
from glorasearch.cli.secret_arguments import hide_secrets
from glorasearch.dotted import load_object
from glorasearch.errors import did_you_mean
from glorasearch.interrupts import interrupt_on_signals, is_interrupt, was_terminated
from glorasearch.redact import conceal_environment
from glorasearch.terminal import say
from glorasearch.version import __version__


class Command(NamedTuple):
    """A subcommand that has not been imported."""

    path: str
    """Its dotted name in this package."""
    help: str
    resumes: bool = False
    """Whether it goes on, called again, where it was interrupted."""


COMMANDS: Final[Mapping[str, Command]] = {
    "quickstart": Command(
        "run_commands:quickstart", "Run all stages on a small shipped model and data set.", resumes=True
    ),
    "run": Command(
        "run_commands:run", "Run all stages of a run file: train, search, race, refit, export, report.", resumes=True
    ),
    "train": Command("run_commands:train", "Train the supernet of a run file.", resumes=True),
    "search": Command("run_commands:search", "Search the best subnet of a trained supernet.", resumes=True),
    "race": Command(
        "run_commands:race", "Race the best subnets and the fixed methods, each trained alone.", resumes=True
    ),
    "refit": Command("run_commands:refit", "Train the winner alone on train + search.", resumes=True),
    "export": Command(
        "export_command:command", "Export the winner as a merged timm model, and in other formats.", resumes=True
    ),
    "predict": Command("predict_command:command", "Classify images with the exported model of a run."),
    "runs": Command("runs_command:command", "List the runs of a workspace."),
    "show": Command("show_command:command", "Show one run: stages, scores, curves."),
    "report": Command("report_command:command", "Write a run into one HTML file: result, provenance, figures."),
    "watch": Command(
        "watch_command:command", "Watch a run while it goes on, from any machine that reaches its database."
    ),
    "curves": Command("curves_command:command", "Print the curves of a run: losses, rates, scores, step by step."),
    "verify": Command("verify_command:command", "Compare what a run has made with the digests in the database."),
    "compare": Command(
        "compare_command:command", "Compare runs: parameters, accuracy with confidence interval, seconds, adapter size."
    ),
    "space": Command("space_command:command", "Show what a search space offers on a backbone."),
    "sweep": Command(
        "sweep_command:command", "Run a run file for many tasks, one run each, here or on a Ray cluster.", resumes=True
    ),
    "submit": Command("submit_command:command", "Send a run file to a Ray cluster as a job, and follow it."),
    "status": Command("job_commands:status", "Show the jobs of a Ray cluster, or those of one run."),
    "stop": Command("job_commands:stop", "Stop a run's job on a Ray cluster."),
    "init": Command("init_command:command", "Write a commented run file."),
    "dashboard": Command(
        "dashboard_command:command", "Serve pages of the workspace's runs, and Optuna's dashboard of their studies."
    ),
}


class _LazyGroup(click.Group):
    """Imports the module of a command only to call it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _load(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}{did_you_mean(args[0], COMMANDS)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])


@functools.cache
def _load(name: str) -> click.Command:
    command: click.Command = load_object(f"glorasearch.cli.{COMMANDS[name].path}")
    assert command.callback is not None
    command.callback = _without_exits(command.callback)
    return command


def _without_exits(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose work click does not end: none of ours raises `Exit` or `Abort`, so that outside code has."""

    @functools.wraps(callback)
    def work(*arguments: Any, **options: Any) -> Any:
        try:
            return callback(*arguments, **options)
        except (click.exceptions.Exit, click.Abort) as stop:
            return report(stop)

    return work


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
    if arguments is None:
        arguments = hide_secrets()
    interrupt_on_signals()
    with exits_are_said():
        code = run(arguments)
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """The command line as a function of its arguments to its exit code."""
    make_plain()
    conceal_environment()
    try:
        check_arguments(sys.argv[1:] if arguments is None else arguments)
        outcome: Any = group.main(args=arguments, prog_name="glorasearch", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:
        cause = stop.__cause__ or stop  # click makes an Abort of every KeyboardInterrupt
        if isinstance(cause, KeyboardInterrupt) and not is_interrupt(cause):
            return report(cause)
        terminated = was_terminated(cause)
        again = "; run the same command again to resume" if _resumes(arguments) else ""
        say(f"{'terminated' if terminated else 'interrupted'}{again}", err=True)
        return 143 if terminated else 130
    except SystemExit as stop:  # no command of ours raises it, so that none has done its work
        if _reader_has_gone(stop) and fault_of(stop) is None:
            return 1
        return report(stop)
    except BaseException as error:  # outside code may raise classes that are not made to be caught
        return report(error)
    return outcome if isinstance(outcome, int) else 0


def _resumes(arguments: list[str] | None) -> bool:
    """Whether the command of these arguments does."""
    given = sys.argv[1:] if arguments is None else arguments
    command = COMMANDS.get(next((one for one in given if not one.startswith("-")), ""))
    return command is not None and command.resumes


def _reader_has_gone(stop: SystemExit) -> bool:
    """Whether click has made this exit of an output that nobody reads; since 8.5 its only trace is another output."""
    return isinstance(stop.__context__, BrokenPipeError) or "PacifyFlushWrapper" in type(sys.stdout).__name__


if __name__ == "__main__":
    main()
