"""What the driver costs a trial: 1,050 trials of 240 genes on SQLite, with evaluations that take no time.

python benchmarks/bench_driver.py [--trials 1050] [--samplers evolution,random] [--json out.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from pathlib import Path

from table import Row

from glorasearch.db import TrialStorage, sqlite_url
from glorasearch.search import SAMPLERS, InProcessExecutor, SearchConfig, SearchDriver, SearchProgress
from glorasearch.space import (
    BoundSpace,
    EvaluationResult,
    EvaluationTask,
    LayerShape,
    Score,
    SearchSpace,
    shipped_names,
)

TARGET = 5.0
"""Milliseconds a trial."""
CHOICES = {
    "A": ["lora:4", "lora:2", "vector", "constant", "none"],
    "B": ["lora:4", "lora:2", "vector", "constant", "none"],
    "C": ["lora:4", "lora:2", "vector", "none"],
    "D": ["vector", "constant", "none"],
    "E": ["vector", "constant", "none"],
}


def vit_base() -> BoundSpace:
    """`glora_medium` on the 48 linear layers of a ViT-B/16: 240 genes."""
    shapes = {"attn.qkv": (768, 2304), "attn.proj": (768, 768), "mlp.fc1": (768, 3072), "mlp.fc2": (3072, 768)}
    layers = [LayerShape(f"blocks.{index}.{name}", *shape) for index in range(12) for name, shape in shapes.items()]
    if "glora_medium" in shipped_names():
        return SearchSpace.load("glora_medium").bind(layers)
    return SearchSpace.from_dict({"name": "glora_medium", "choices": CHOICES}).bind(layers)


def evaluate(task: EvaluationTask) -> EvaluationResult:
    """Scores from the subnet's digest."""
    noise = hashlib.sha256(task.subnet_digest.encode()).digest()
    nats = noise[1] / 256
    return EvaluationResult(task.subnet_digest, Score(100 + noise[0] % 100, 200, nats, tempered=nats, beta=1.0))


def measure(sampler: str, trials: int, directory: Path) -> dict[str, float]:
    """Milliseconds a trial, and seconds to open the finished study again."""
    space = vit_base()
    config = SearchConfig(trials=trials, sampler=sampler)
    url = sqlite_url(f"{directory / sampler}.db")
    batches: list[float] = []
    last = time.perf_counter()

    def on_progress(progress: SearchProgress) -> None:
        nonlocal last
        if progress.done % 50 == 0:
            now = time.perf_counter()
            batches.append((now - last) / 50 * 1e3)
            last = now

    with InProcessExecutor(evaluate) as executor:
        driver = SearchDriver(space, TrialStorage(url), executor, "weights", "study", config, on_progress=on_progress)
        outcome = driver.run()
        started = time.perf_counter()
        again = SearchDriver(space, TrialStorage(url), executor, "weights", "study", config).run()
        reopened = time.perf_counter() - started
    assert again.best == outcome.best
    return {
        "genes": len(space.genes),
        "trials": outcome.trials,
        "ms_per_trial": round(outcome.seconds / outcome.trials * 1e3, 2),
        "ms_median_of_50": round(statistics.median(batches), 2),
        "ms_last_50": round(batches[-1], 2),
        "reopen_seconds": round(reopened, 3),
    }


def rows(trials: int = 1_050) -> list[Row]:
    """The driver's work a trial with the default sampler."""
    with tempfile.TemporaryDirectory() as directory:
        figures = measure("evolution", trials, Path(directory))
    note = f"median of 50: {figures['ms_median_of_50']} ms; the last 50: {figures['ms_last_50']} ms"
    what = f"driver work a trial, {figures['genes']:.0f} genes, SQLite"
    return [Row(what=what, measured=figures["ms_per_trial"], unit="ms", target=TARGET, note=note)]


def main() -> None:
    """Measure the samplers, print a table and, if asked for, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_050)
    parser.add_argument("--samplers", default=",".join(name for name in SAMPLERS if name != "tpe"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        rows = {name: measure(name, arguments.trials, Path(directory)) for name in arguments.samplers.split(",")}
    names = list(next(iter(rows.values())))
    print(f"{'sampler':<12}" + "".join(f"{name:>18}" for name in names))
    for sampler, row in rows.items():
        print(f"{sampler:<12}" + "".join(f"{row[name]:>18}" for name in names))
    text = json.dumps(rows, indent=2)
    print(text)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
