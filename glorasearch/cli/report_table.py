"""The final report as a table."""

from __future__ import annotations

from rich.table import Table

from glorasearch.cli.metrics_table import print_metrics
from glorasearch.cli.output import count, score
from glorasearch.cli.race_table import print_race
from glorasearch.data.names import describe_ignored
from glorasearch.plain_console import PlainConsole
from glorasearch.quantities import percent
from glorasearch.runs.method_rows import method_rows
from glorasearch.runs.paths import space_label
from glorasearch.runs.results import (
    BestSearched,
    DataSummary,
    ParetoPoint,
    PilotsSummary,
    PilotSummary,
    Report,
)
from glorasearch.space import CLASS_METRICS, fitness_name
from glorasearch.tasks.kinds import words_of

SHOWN_OF_FRONT = 12
"""Points of the front of a search that a line shows."""
_UNITS = {"latency": "latency in ms", "training_flops": "GFLOP of a training step"}
HARDEST = 3
ERROR = "mean squared error of standardised targets"
"""Classes that are named."""


def print_report(report: Report) -> None:
    """Print a table of the test accuracies, and where everything is."""
    console = PlainConsole()
    table = Table(
        title=f"{report.task} on {report.backbone}: {words_of(report.splits.task).accuracy or ERROR} on "
        f"{report.splits.test.images} test images",
        title_justify="left",
    )
    table.add_column("method")
    table.add_column("parameters", justify="right")
    table.add_column("trained on")
    table.add_column("test", justify="right")
    for row in method_rows(report):
        table.add_row(
            row.label,
            count(row.parameters),
            row.trained_on,
            score(row.accuracy, row.error),
            style="bold" if row.exported else "",
        )
    console.print(table)
    print_metrics(report, console)
    if report.race is not None:
        print_race(report.race, verdict=False)
    console.print(_fixed_method(report) if report.fixed_method else _search(report))
    if len(report.front) > 1:
        console.print(_front(report), highlight=False, soft_wrap=True)
    if report.pilots is not None:
        console.print(_pilots(report.pilots))
    if hardest := _hardest(report):
        console.print(hardest, highlight=False, markup=False, soft_wrap=True)
    for line in _data(report.splits):
        console.print(line, soft_wrap=True)
    for statement in report.statements:
        console.print(statement, soft_wrap=True)
    if report.latency is not None:
        console.print(report.latency.sentence, highlight=False, soft_wrap=True)
    console.print(
        f"merged model: {report.export.path} (differs from the adapted one by at most "
        f"{report.export.max_abs_diff:.1e})",
        soft_wrap=True,
    )


def _hardest(report: Report) -> str:
    """The classes whose images the winner misses most; empty if it misses none."""
    missed = sorted(
        (one for one in report.by_class if one.correct < one.images), key=lambda one: one.correct / one.images
    )
    listed = ", ".join(f"{one.name} ({one.correct} of {one.images} correct)" for one in missed[:HARDEST])
    return f"hardest {words_of(report.splits.task).outputs}: {listed}" if listed else ""


def _data(splits: DataSummary) -> list[str]:
    """What is unusual about the data: unused files, copies, the scale of pixels, images that are turned."""
    ignored, turned = describe_ignored(splits.ignored), (splits.reading or {}).get("turned", 0)
    lines = [f"not used of the data: {ignored}"] if ignored else []
    lines += [line for line in (splits.copies, splits.scale) if line]
    return lines + ([f"{count(turned)} images are turned upright as their EXIF says"] if turned else [])


def _pilots(found: PilotsSummary) -> str:
    """The rate, and what finding it cost."""

    def outcome(pilot: PilotSummary) -> str:
        if pilot.diverged:
            return "diverged"
        return f"given up after {pilot.steps} steps" if pilot.stopped else f"{pilot.scores[-1]:.3f}"

    pilots = ", ".join(f"{pilot.rate:g} ({outcome(pilot)})" for pilot in found.pilots)
    return f"learning rate {found.lr:g}, found by pilots of {found.steps} steps in {found.seconds:.0f} s: {pilots}"


def _search(report: Report) -> str:
    search, training = report.search, report.supernet
    which = "winner" if report.point is None else "this trial"
    counts = f"{search.evaluated} evaluated, {search.reused} reused, {search.failed} failed"
    if search.stopped_early:
        counts += (
            f"; {search.stopped_early} of them stopped early, {100 * search.images_share:.0f} % of the images scored"
        )
    return (
        f"space {report.space}, {search.sampler}: {search.trials} trials in {search.seconds:.0f} s ({counts}); "
        f"supernet {training.steps} steps in {training.seconds:.0f} s; {which} on the search split: "
        f"{_scores(report)}; "
        f"{_origin(report.best_searched)}"
    )


def _front(report: Report) -> str:
    """The trials to choose from, and how."""
    run = report.run if report.point is None else report.point.run
    every = -(-len(report.front) // SHOWN_OF_FRONT)
    shown = report.front[::-1][::every][::-1]  # the best one is always among them
    points = "; ".join(f"{one.trial}: {', '.join((count(one.parameters), *_worth(one)))}" for one in shown)
    some = f"{len(shown)} of {len(report.front)} points on the " if every > 1 else ""
    objectives = list(report.front[0].objectives) or ["accuracy"]
    names = [_UNITS.get(name, fitness_name(name)) for name in objectives]
    fitness = report.search.fitness
    other = "" if fitness in objectives else f"; the winner is the best by {fitness_name(fitness)}"
    return (
        f"{some}front of the search (trial: parameters, {', '.join(names)} on the search split{other}): {points}. "
        f"`glorasearch export {run} --trial N` refits and exports one"
    )


def _worth(point: ParetoPoint) -> list[str]:
    """What a point of the front is worth and costs, beside its parameters."""
    found = [
        count(int(value)) if name == "bytes" else f"{1e-9 * value:.3g}" if name == "training_flops" else f"{value:.3f}"
        for name, value in point.objectives.items()
    ]
    return found or [percent(point.search_accuracy)]


def _scores(report: Report) -> str:
    best, fitness = report.best_searched, report.search.fitness
    if best.search_cross_entropy is None or best.search_tempered is None or best.search_temperature is None:
        return f"{fitness_name(fitness)} {best.search_fitness:.3f}"
    asked = f"{fitness_name(fitness)} {best.search_fitness:.3f}, " if fitness in CLASS_METRICS else ""
    return (
        f"{asked}{percent(best.search_accuracy)}, cross-entropy {best.search_cross_entropy:.3f}, "
        f"{fitness_name('tempered')} {best.search_tempered:.3f} at temperature {best.search_temperature:.2f}"
    )


def _origin(winner: BestSearched) -> str:
    """Where the winner of a search comes from."""
    if winner.start is None or winner.start_share is None:
        return f"trial {winner.trial}, with no start among its ancestors"
    if winner.start_share == 1:
        return f"trial {winner.trial}, a start of the search: {winner.start}"
    share = f"{100 * winner.start_share:.0f} % of its genes"
    return f"trial {winner.trial}, which descends from {winner.start} and shares {share} with it"


def _fixed_method(report: Report) -> str:
    training = report.supernet
    return (
        f"space {space_label(report.space)} has one subnet: trained alone for {training.steps} steps in "
        f"{training.seconds:.0f} s; on the search split: {_scores(report)}; nothing was searched"
    )
