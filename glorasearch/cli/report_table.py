"""The final report as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from glorasearch.runs.paths import space_label


def print_report(report: Mapping[str, Any]) -> None:
    """Print the table of a `report.json`, and where everything lies."""
    console = Console()
    images = {name: report["splits"][name]["images"] for name in ("train", "search", "test")}
    table = Table(
        title=f"{report['task']} on {report['backbone']}: accuracy on {images['test']} test images",
        title_justify="left",
    )
    table.add_column("method")
    table.add_column("parameters", justify="right")
    table.add_column("trained on")
    table.add_column("test", justify="right")
    for name, row in report["baselines"].items():
        table.add_row(name, f"{row['parameters']:,}", row["trained_on"], _percent(row["test_accuracy"]))
    random = report["random_subnets"]
    if random is not None:
        table.add_row(
            f"{random['count']} random subnets (mean)",
            f"{random['mean_parameters']:,.0f}",
            "train",
            _percent(random["mean_test_accuracy"]),
        )
    winner, fixed, method = report["winner"], report.get("fixed_method", False), space_label(report["space"])
    table.add_row(
        method if fixed else "winner, inherited weights",
        f"{winner['parameters']:,}",
        "train",
        _percent(winner["test_accuracy"]),
    )
    if report["refit"]["steps"]:
        table.add_row(
            f"{method}, refitted" if fixed else "winner, refitted",
            f"{winner['parameters']:,}",
            "train + search",
            _percent(winner["refit_test_accuracy"]),
            style="bold",
        )
    console.print(table)
    console.print(_alone(report) if fixed else _searched(report), highlight=False)
    console.print(
        f"merged model: {report['export']['path']} (differs from the adapted one by at most "
        f"{report['export']['max_abs_diff']:.1e})",
        highlight=False,
        soft_wrap=True,
    )


def _searched(report: Mapping[str, Any]) -> str:
    search, training = report["search"], report["supernet"]
    counts = f"{search['evaluated']} evaluated, {search['reused']} reused, {search['failed']} failed"
    return (
        f"space {report['space']}, {search['sampler']}: {search['trials']} trials in {search['seconds']:.0f} s "
        f"({counts}{_stopped_early(search)}); "
        f"supernet {training['steps']} steps in {training['seconds']:.0f} s"
    )


def _alone(report: Mapping[str, Any]) -> str:
    """The same of a fixed method."""
    training, score = report["supernet"], report["winner"]["search_accuracy"]
    return (
        f"space {space_label(report['space'])} has one subnet: trained alone for {training['steps']} steps in "
        f"{training['seconds']:.0f} s, {_percent(score)} on the search split; nothing was searched"
    )


def _stopped_early(search: Mapping[str, Any]) -> str:
    """What early stopping saved; empty if no candidate was stopped early."""
    if not search.get("stopped_early"):
        return ""
    return (
        f"; {search['stopped_early']} of them stopped early, {100 * search['images_share']:.0f} % of the images scored"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
