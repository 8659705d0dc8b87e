"""What the defaults of search and refit rest on: supernets of several seeds, searched, refitted and tested in each way.

    python scripts/ablations.py [--seeds 12 13 14] [--parallel 2] [--output docs/ablations.json] [--steps 1000]

For each seed, space and learning rate: a supernet on the training split; the mean test accuracy of random subnets;
the winners by cross-entropy and by accuracy; the first one refitted on train + search from inherited weights and from a
fresh start. Then the same supernets with the reference's shared storage, without refits, and fixed methods over
learning rates. All of it reads test splits, so these seeds are not those of the results table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, Splits, TrainSplit, load_splits
from glorasearch.db import TrialStorage, sqlite_url
from glorasearch.evaluation import CandidateEvaluator, accuracy_on_test
from glorasearch.search import InProcessExecutor, SearchConfig, SearchDriver
from glorasearch.space import FITNESSES, SearchSpace, Subnet, sample_within_budget
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, SamplingStrategy, SupernetTrainer, Uniform

Row = dict[str, Any]


def prepare(seed: int) -> tuple[torch.nn.Module, Splits]:
    backbone = build_backbone(BackboneConfig(name="quickstart"), 10, seed=seed)
    data = DataConfig(source="digits", seed=seed, train=800, search=200)
    return backbone, load_splits(data, InputSpec.from_backbone(backbone))


def fit(supernet: Supernet, split: TrainSplit, strategy: SamplingStrategy, lr: float, steps: int, seed: int) -> None:
    config = SupernetTrainer.Config(
        steps=steps, lr=lr, vector_lr=lr, head_lr=lr, warmup_steps=min(50, steps // 10), seed=seed, probe_every=0
    )
    SupernetTrainer(supernet, split, strategy, config).run()


def search(supernet: Supernet, splits: Splits, fitness: Any, seed: int, trials: int) -> Subnet:
    evaluator = CandidateEvaluator(supernet, splits.search)
    config = SearchConfig(trials=trials, fitness=fitness, seed=seed)
    with tempfile.TemporaryDirectory() as folder, InProcessExecutor(evaluator) as executor:
        storage = TrialStorage(sqlite_url(f"{folder}/study.db"))
        return SearchDriver(supernet.space, storage, executor, "weights", "study", config).run().subnet


def supernet_rows(name: str, lr: float, seed: int, entangle: str, steps: int, trials: int) -> Iterator[Row]:
    backbone, splits = prepare(seed)
    content = SearchSpace.load(name).model_dump(mode="json", exclude_none=True) | {"entangle": entangle}
    space = SearchSpace.from_dict(content)
    tag: Row = {"space": name, "lr": lr, "seed": seed, "entangle": entangle, "steps": steps}

    def tested(model: Supernet, subnet: Subnet) -> Row:
        accuracy = accuracy_on_test(model.merged(subnet), splits.test)
        return tag | {"parameters": model.space.parameters(subnet), "test": accuracy}

    supernet = Supernet(backbone, space, seed=seed)
    fit(supernet, splits.train, Uniform(supernet.space, seed), lr, steps, seed)
    rng = np.random.default_rng(5)
    random = [tested(supernet, sample_within_budget(supernet.space, rng)) for _ in range(40)]
    yield tag | {"kind": "random", "test": statistics.mean(row["test"] for row in random)}
    for fitness in FITNESSES:
        winner = search(supernet, splits, fitness, seed, trials)
        yield tested(supernet, winner) | {"kind": "winner", "fitness": fitness}
        if fitness == "accuracy" or entangle == "reference":
            continue
        for start in ("inherited", "fresh"):
            refitted = Supernet(backbone, space, seed=seed)
            if start == "inherited":
                refitted.load_adapter_state(supernet.adapter_state())
            fit(refitted, splits.train_and_search(), Fixed(winner), lr, steps, seed)
            yield tested(refitted, winner) | {"kind": "refit", "fitness": fitness, "start": start}


def fixed_rows(name: str, lr: float, seed: int, steps: int) -> Iterator[Row]:
    backbone, splits = prepare(seed)
    supernet = Supernet(backbone, SearchSpace.load(name), seed=seed)
    subnet = supernet.space.largest()
    fit(supernet, splits.train, Fixed(subnet), lr, steps, seed)
    accuracy = accuracy_on_test(supernet.merged(subnet), splits.test)
    yield {"kind": "fixed", "space": name, "lr": lr, "seed": seed, "steps": steps, "test": accuracy}


def work(task: tuple[str, tuple[Any, ...]]) -> list[Row]:
    rows = list({"supernet": supernet_rows, "fixed": fixed_rows}[task[0]](*task[1]))
    for row in rows:
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[12, 13, 14])
    parser.add_argument("--parallel", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("docs/ablations.json"))
    options = parser.parse_args()
    steps, trials = options.steps, options.trials
    tasks: list[tuple[str, tuple[Any, ...]]] = []
    for seed in options.seeds:
        for name in ("lean", "glora_large"):
            tasks += [("supernet", (name, lr, seed, "untied", steps, trials)) for lr in (5e-3, 1e-2)]
            tasks.append(("supernet", (name, 1e-2, seed, "reference", steps, trials)))
        for name in ("bitfit", "ssf", "lora", "lora_r8"):
            tasks += [("fixed", (name, lr, seed, steps)) for lr in (1e-3, 2e-3, 4e-3, 1e-2)]
    with ProcessPoolExecutor(options.parallel) as pool:
        rows = [row for found in pool.map(work, tasks) for row in found]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
