"""The units of each phase: name, seconds that it is expected to take on one GPU, what it does."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from common import grid
from crossfit import RECIPES, folds, random_folds, recipe, shorts, slow_random
from recipe import finalists, retrain
from runner import Runner, Unit
from suite import TASKS
from supernets import supernets, supernets_single
from timing import bench, check

EXTRA = {"grid": 0, "crossfit": 16_000, "recipe": 66_000}
"""Room for further images that each phase needs, by phase."""


def units(phase: str, runner: Runner) -> Iterator[Unit]:
    """The units of a phase, the most important ones first."""
    if phase == "grid":
        if runner.graphed:
            yield "check", 0.0, check
            yield "bench", 0.0, bench
        for task in TASKS:
            yield f"grid-{task}", 51.0, partial(yardstick, task=task)
    elif phase == "crossfit":
        for task in TASKS:
            yield f"folds-{task}", 66.0, partial(folds, task=task)
        for name, more in RECIPES.items():
            yield f"recipe-{name}", 27.0, partial(recipe, name=name, more=more)
        for task in TASKS:
            yield f"random-{task}", 33.0, partial(random_folds, task=task)
            yield f"short-{task}", 11.0, partial(shorts, task=task)
    else:
        yield "retrain", 52.0, retrain
        yield "finalists", 105.0, finalists
        for name in ("uniform4", "fair4", "sandwich4"):
            yield f"super-{name}", 50.0, partial(supernets, name=name)
        yield "super-single", 70.0, supernets_single
        for task in TASKS:
            yield f"slow-{task}", 11.0, partial(slow_random, task=task)


def yardstick(runner: Runner, task: str) -> None:
    """Every fixed method at every rate on train."""
    runner.train(grid(runner, task, "train", steps=runner.sizes.yardstick))
