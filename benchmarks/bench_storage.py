"""Time the trial storage beside Optuna's own, on trials of a ViT-B/16 search: 48 layers, 240 genes.

    python benchmarks/bench_storage.py [--json PATH] [--trials 1000] [--slow-trials 20] [--database URL]

All storages are measured in one run on one machine, with the same choices:

- `driver`: a trial as the search driver makes and finishes it; milliseconds a trial. Optuna's storages cannot set a
  whole trial at once: there it is created from a template with all parameters, its scores are set, and it is told.
- `ask/tell`: `study.ask(fixed_distributions=...)` and `study.tell` with a random sampler; milliseconds a trial.
- `load`: all trials of the study that `driver` made, in a fresh storage; seconds, the median of three.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from table import Row

from glorasearch.db import TrialStorage

CHOICES = {
    "A": ("none", "constant", "vector", "lora:8"),
    "B": ("none", "constant", "vector", "lora:8"),
    "C": ("none", "vector", "lora:8"),
    "D": ("none", "constant", "vector"),
    "E": ("none", "constant", "vector"),
}
GENES: dict[str, BaseDistribution] = {
    f"blocks.{block}.{layer}.{tensor}": CategoricalDistribution(choices)
    for block in range(12)
    for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    for tensor, choices in CHOICES.items()
}
TARGETS = {"driver": 10.0, "ask/tell": 150.0, "load": 0.5}
UNITS = {"driver": "ms", "ask/tell": "ms", "load": "s"}

Opener = Callable[[], BaseStorage]


def subnets(count: int) -> Iterator[dict[str, str]]:
    """The same choices for every storage."""
    draw = random.Random(0)
    for _ in range(count):
        yield {name: draw.choice(CHOICES[name[-1]]) for name in GENES}


@contextmanager
def timed(times: list[float]) -> Iterator[None]:
    """Add the seconds of a block."""
    start = time.perf_counter()
    yield
    times.append(time.perf_counter() - start)


def driver_trials(storage: BaseStorage, study_id: int, count: int) -> list[float]:
    """Seconds of each trial as the search driver makes and finishes it."""
    times: list[float] = []
    scores = {
        "accuracy": 0.5,
        "correct": 100,
        "total": 200,
        "cross_entropy": 1.5,
        "seconds": 0.02,
        "origin": "evaluated",
    }
    for index, params in enumerate(subnets(count)):
        attrs: dict[str, Any] = {"subnet": f"{index:064}", "parameters": 500_000}
        with timed(times):
            if isinstance(storage, TrialStorage):
                trial_id = storage.create_new_trial(study_id)
                storage.set_trial_params(trial_id, params, GENES, attrs)
                storage.finish_trial(trial_id, TrialState.COMPLETE, [0.5], scores)
            else:
                template = create_trial(state=TrialState.RUNNING, params=params, distributions=GENES, user_attrs=attrs)
                trial_id = storage.create_new_trial(study_id, template)
                for key, value in scores.items():
                    storage.set_trial_user_attr(trial_id, key, value)
                storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
    return times


def asked_trials(storage: BaseStorage, count: int) -> list[float]:
    """Seconds of each trial through `ask` and `tell`."""
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(0), study_name="asked")
    times: list[float] = []
    for _ in range(count):
        with timed(times):
            study.tell(study.ask(GENES), 0.5)
    return times


def load(open_storage: Opener, study_name: str) -> tuple[int, float]:
    """Number of trials of a study, and the seconds (median of three) that a fresh storage takes to load them."""
    times: list[float] = []
    count = 0
    for _ in range(3):
        with timed(times):
            storage = optuna.storages.get_storage(open_storage())
            count = len(storage.get_all_trials(storage.get_study_id_from_name(study_name), deepcopy=False))
    return count, statistics.median(times)


def measure(name: str, open_storage: Opener, trials: int, slow_trials: int) -> dict[str, Any]:
    """All figures of one storage. `driver` and `ask/tell` are medians without the first trial."""
    ours = open_storage()
    storage = optuna.storages.get_storage(ours)
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "driven")
    print(f"{name}: driver ...", file=sys.stderr)
    driven = driver_trials(storage, study_id, trials)
    print(f"{name}: ask/tell ...", file=sys.stderr)
    asked = asked_trials(storage, slow_trials + 1)
    count, seconds = load(open_storage, "driven")
    assert count == trials
    return {
        "driver": statistics.median(driven[1:]) * 1e3,
        "driver_p95": statistics.quantiles(driven[1:], n=20)[-1] * 1e3,
        "ask/tell": statistics.median(asked[1:]) * 1e3,
        "ask/tell_first": asked[0] * 1e3,
        "load": seconds,
        "trials_loaded": count,
    }


def opening_seconds(url: str) -> float:
    """Seconds that a fresh process takes to import the package and open the database, Python's own start left out."""
    script = f"import time; t = time.perf_counter(); from glorasearch.db import TrialStorage; TrialStorage({url!r})"
    command = [sys.executable, "-c", f"{script}; print(time.perf_counter() - t)"]
    return min(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3))


def rows(trials: int = 300, slow_trials: int = 10) -> list[Row]:
    """Each figure of our storage, with that of Optuna's own storage on SQLite."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        ours = measure("TrialStorage", lambda: TrialStorage(f"sqlite:///{folder}/ours.db"), trials, slow_trials)
        theirs = measure("RDBStorage", lambda: RDBStorage(f"sqlite:///{folder}/rdb.db"), trials, slow_trials)
    return [
        Row(
            what=f"storage of trials, {key}, {trials} trials of {len(GENES)} genes",
            measured=ours[key],
            unit=UNITS[key],
            target=TARGETS[key],
            note=f"Optuna's RDBStorage: {theirs[key]:.3g} {UNITS[key]}",
        )
        for key in UNITS
    ]


def print_table(results: dict[str, dict[str, Any]]) -> None:
    """The figures, and how many times longer than ours Optuna's storages take."""
    ours = next(iter(results.values()))
    print(f"\n{'240 genes a trial':<22}" + "".join(f"{f'{key} [{unit}]':>22}" for key, unit in UNITS.items()))
    for name, figures in results.items():
        cells = (f"{figures[key]:.3g} ({figures[key] / ours[key]:.1f}x)" for key in UNITS)
        print(f"{name:<22}" + "".join(f"{cell:>22}" for cell in cells))
    print(f"{'target':<22}" + "".join(f"{f'<= {TARGETS[key]:g}':>22}" for key in UNITS))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--trials", type=int, default=1_000, help="trials of `driver` and `load`")
    parser.add_argument("--slow-trials", type=int, default=20, help="trials of `ask/tell`")
    parser.add_argument(
        "--database", help="URL of an empty database for ours and the RDB storage (default: SQLite files)"
    )
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        url = options.database or f"sqlite:///{folder}/ours.db"
        openers: dict[str, Opener] = {
            "TrialStorage": lambda: TrialStorage(url),
            "optuna JournalStorage": lambda: JournalStorage(JournalFileBackend(f"{folder}/journal.log")),
            "optuna RDBStorage": lambda: RDBStorage(f"sqlite:///{folder}/rdb.db"),
        }
        results = {name: measure(name, opener, options.trials, options.slow_trials) for name, opener in openers.items()}
        opening = opening_seconds(url)
    print_table(results)
    print(f"import and open an up-to-date database in a fresh process: {opening:.2f} s")
    if options.json:
        about = {
            "genes": len(GENES),
            "python": platform.python_version(),
            "optuna": optuna.__version__,
            "targets": TARGETS,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"storages": results, "opening_seconds": opening, **about}, indent=2) + "\n")


if __name__ == "__main__":
    main()
