"""The summary as a plot: the winner minus each other arm, pair by pair and on average."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHOWN = (("winner_minus_yardstick", "minus the yardstick"), ("winner_minus_race_only", "minus the race without search"))


def plot(summary: Mapping[str, Any], path: Path) -> None:
    """Write an SVG; nothing if there is no pair to show."""
    shown = [(summary[key], title) for key, title in SHOWN if summary[key] is not None]
    if not shown:
        return
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "glorasearch"
    from matplotlib import pyplot

    tasks = summary["tasks"]
    figure, panels = pyplot.subplots(1, len(shown), figsize=(4.2 * len(shown), 0.5 * len(tasks) + 1.8), sharey=True)
    for axes, (found, title) in zip([panels] if len(shown) == 1 else panels, shown, strict=True):
        axes.axvline(0, color="0.6", linewidth=1)
        for row, task in enumerate(tasks):
            points = [one["points"] for one in found["each"] if one["task"] == task]
            axes.plot(points, [row] * len(points), "o", color="tab:blue", alpha=0.5, markersize=5)
            if task in found["per_task"]:
                axes.plot(found["per_task"][task], row, "D", color="tab:red", markersize=6)
        mean = found["mean_points"]
        axes.plot(mean, len(tasks), "D", color="black", markersize=7)
        if found["interval"] is not None:
            axes.plot(found["interval"], [len(tasks)] * 2, color="black", linewidth=1.5)
        axes.set_title(f"winner {title}: {mean:+.2f}", fontsize=10)
        axes.set_xlabel("points of test accuracy")
        axes.set_yticks(range(len(tasks) + 1), [*tasks, "mean, 95 %"])
        axes.spines[["top", "right"]].set_visible(False)
    figure.gca().invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
