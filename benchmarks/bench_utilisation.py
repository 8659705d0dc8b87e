"""How busy steady and generational searches keep 64 workers, and what they find: simulated, log-normal evaluations.

    python benchmarks/bench_utilisation.py [--trials 6400] [--workers 64] [--seeds 5] [--json PATH]

The workers are simulated (`glorasearch.search.SimulatedExecutor`); driver, sampler and SQLite are the real ones.
Evaluations take 20 s at the median, log-normal with sigma 0.5, and again with sigma 1. Utilisation is the share of
workers x makespan that went into evaluations. What is searched is an NK landscape over the 240 genes of `glora_medium`
on a ViT-B/16: see landscape.py. Every search makes as many trials; seed s names the search and its landscape.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from typing import Any

from bench_driver import vit_base
from landscape import Landscape
from table import Row, finish, json_option

from glorasearch.db import TrialStorage, sqlite_url
from glorasearch.search import LogNormalSeconds, SearchConfig, SearchDriver, SearchProgress, SimulatedExecutor
from glorasearch.space import BoundSpace

TARGET = 0.95
MODES: dict[str, dict[str, Any]] = {
    "steady": {"mode": "steady", "population": 50},
    "generational, population 50": {"mode": "generational", "population": 50},
    "generational, population 256": {"mode": "generational", "population": 256},
}


@dataclass(frozen=True)
class Outcome:
    """One search."""

    utilisation: float
    undrained: float
    """Utilisation until no more trials are left than workers have room for: steady mode has work for all until then."""
    hours: float
    """Simulated, from the first task to the last result."""
    best: dict[int, float]
    """Trials made → lowest cross-entropy by then."""


def search(space: BoundSpace, mode: str, trials: int, workers: int, sigma: float, seed: int) -> Outcome:
    """Run one search."""
    marks = sorted({trials // 8, trials // 2, trials})
    best: dict[int, float] = {}
    undrained = 0.0

    def note(progress: SearchProgress) -> None:
        nonlocal undrained
        if progress.done == trials - executor.capacity:
            undrained = executor.utilisation
        if progress.done in marks and progress.best is not None:
            best[progress.done] = progress.best.score.tempered

    executor = SimulatedExecutor(Landscape(space, seed), workers, LogNormalSeconds(sigma=sigma, seed=seed))
    config = SearchConfig(trials=trials, seed=seed, **MODES[mode])
    with tempfile.TemporaryDirectory() as directory, executor:
        storage = TrialStorage(sqlite_url(f"{directory}/study.db"))
        SearchDriver(space, storage, executor, "weights", "study", config, on_progress=note).run()
    return Outcome(executor.utilisation, undrained, executor.clock / 3_600, best)


def rows(trials: int = 6_400, workers: int = 64, seeds: int = 5) -> list[Row]:
    """Utilisation of every mode, and what it finds."""
    space = vit_base()
    found: list[Row] = []
    quality: list[Row] = []
    for mode in MODES:
        for sigma in (0.5, 1.0):
            outcomes = [
                search(space, mode, trials, workers, sigma, seed) for seed in range(seeds if sigma == 0.5 else 1)
            ]
            share = statistics.mean(outcome.utilisation for outcome in outcomes)
            undrained = statistics.mean(outcome.undrained for outcome in outcomes)
            hours = statistics.mean(outcome.hours for outcome in outcomes)
            found.append(
                Row(
                    what=f"idle share of {workers} workers, {mode}, sigma {sigma:g}",
                    measured=round(1 - share, 4),
                    unit="",
                    target=round(1 - TARGET, 2) if mode == "steady" and sigma == 0.5 else None,
                    note=f"utilisation {100 * share:.1f} %, {100 * undrained:.1f} % without the last {2 * workers}; "
                    f"{trials} trials take {hours:.2f} h",
                )
            )
            if sigma == 0.5:
                quality += [_quality(mode, mark, outcomes) for mark in outcomes[0].best]
    return found + quality


def _quality(mode: str, mark: int, outcomes: list[Outcome]) -> Row:
    values = [outcome.best[mark] for outcome in outcomes]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    note = f"mean of {len(values)} seeds, standard deviation {spread:.4f}: " + ", ".join(f"{v:.4f}" for v in values)
    return Row(
        what=f"best after {mark} trials, {mode}", measured=round(statistics.mean(values), 4), unit="nats", note=note
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=6_400)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=5)
    json_option(parser)
    options = parser.parse_args()
    finish(rows(options.trials, options.workers, options.seeds), options)


if __name__ == "__main__":
    main()
