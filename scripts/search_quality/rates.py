"""Do groups of parameters want rates of their own, and do pilots pick the rate that a whole training would pick?

    python scripts/search_quality/rates.py groups OUT.jsonl              # the quickstart's backbone, digits
    python scripts/search_quality/rates.py suite OUT.jsonl --suite SUITE # two tasks of the suite
    python scripts/search_quality/rates.py pilots OUT.jsonl              # 500 steps at three rates, and their pilots

On a CPU, by the product's own trainer and evaluator; a line of JSON for each training. Splits of seed 3.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import glorasearch as gs
from glorasearch.evaluation import CandidateEvaluator, accuracy_on_test
from glorasearch.runs.pilots import judged_subnets
from glorasearch.runs.results import TrainResult
from glorasearch.space import Subnet
from glorasearch.training import make_strategy

SEED = 3
RATES = (1e-3, 3e-3, 1e-2)
Row = dict[str, Any]


def scores(evaluator: CandidateEvaluator, judged: Mapping[str, Subnet]) -> tuple[float, float]:
    """Mean tempered score and accuracy of the judged subnets on the search split."""
    found = [evaluator.evaluate(subnet) for subnet in judged.values()]
    return sum(one.tempered for one in found) / len(found), sum(one.accuracy for one in found) / len(found)


def train(
    backbone: str, data: gs.Splits, space: str, lr: float, vector: float, head: float, steps: int, batch: int, few: int
) -> Row:
    """One training with factors on `lr` for vectors and the head, judged after each third of its steps."""
    supernet = gs.create_supernet(backbone, space, classes=data.classes, seed=SEED)
    judged = dict(list(judged_subnets(supernet.space, SEED).items())[:few])
    curve: list[tuple[float, float]] = []
    evaluator: CandidateEvaluator | None = None

    def probe(net: gs.Supernet) -> Mapping[str, float]:
        nonlocal evaluator
        if evaluator is None:
            evaluator = CandidateEvaluator(net, data.search)
        evaluator.refresh()
        curve.append(scores(evaluator, judged))
        return {}

    config = gs.TrainingConfig(
        steps=steps, batch_size=batch, lr=lr, vector_lr=lr * vector, head_lr=lr * head, seed=SEED,
        probe_every=-(-steps // 3),
    )  # fmt: skip
    began = time.perf_counter()
    try:
        gs.SupernetTrainer(supernet, data.train, make_strategy(config, supernet.space), config, probe=probe).run()
    except gs.RunError as error:
        return {"space": space, "lr": lr, "vector": vector, "head": head, "diverged": str(error)[:80]}
    test = [
        accuracy_on_test(supernet.merged(subnet), data.test) for subnet in judged.values() if len(data.test) < 1_000
    ]
    return {
        "space": space, "lr": lr, "vector": vector, "head": head, "steps": steps, "batch": batch,
        "tempered": [round(one, 4) for one, _ in curve], "search": round(100 * curve[-1][1], 2),
        "test": round(100 * sum(test) / len(test), 2) if test else None,
        "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def groups() -> Iterator[Row]:
    """The quickstart's backbone: the supernet of `lean`, then methods alone."""
    data = gs.load_data("digits", "quickstart", train=800, search=200, seed=SEED)

    def row(space: str, lr: float, vector: float = 1.0, head: float = 1.0) -> Row:
        return {"task": "digits"} | train("quickstart", data, space, lr, vector, head, 200, 32, 9)

    for space, rates in (
        ("ssf", (3e-3, 1e-2, 3e-2, 1e-1)),
        ("lora", (3e-3, 1e-2, 3e-2)),
        ("wegeft", (3e-3, 1e-2, 3e-2)),
    ):
        for lr in rates:
            yield row(space, lr)
    yield row("ssf", 1e-2, 1.0, 0.3)
    yield row("ssf", 3e-2, 1.0, 0.3)
    yield row("wegeft", 1e-2, 1.0, 3.0)
    yield row("lora", 1e-2, 1.0, 3.0)
    for lr in (3e-3, 1e-2):
        for vector, head in ((1.0, 1.0), (3.0, 1.0), (10.0, 1.0), (1.0, 3.0), (3.0, 3.0)):
            yield row("lean", lr, vector, head)


def suite(folder: Path) -> Iterator[Row]:
    """Two tasks that want opposite rates: the supernet of `lean`."""
    backbone = f"local-dir:{folder / 'backbone'}"
    for vector, head, rates in (
        (1.0, 1.0, RATES),
        (10.0, 1.0, RATES[:1]),
        (3.0, 1.0, RATES[:2]),
        (1.0, 3.0, RATES[:1]),
    ):
        for task in ("font", "orientation"):
            data = gs.load_data(
                f"npz:{folder / 'tasks.npz'}#{task}", backbone, train=800, search=200, seed=SEED, allow_overlap=True
            )
            for lr in rates:
                yield {"task": task} | train(backbone, data, "lean", lr, vector, head, 100, 16, 5)


def pilots() -> Iterator[Row]:
    """Whole runs of 500 steps at each rate, and the pilots of one that leaves the rate open."""
    with tempfile.TemporaryDirectory() as workspace:
        for lr in (*RATES, "auto"):
            content: dict[str, Any] = {
                "name": f"lr-{lr}", "seed": SEED, "device": "cpu", "threads": 1, "backbone": {"name": "quickstart"},
                "data": {"source": "digits", "train": 800, "search": 200}, "space": {"name": "lean"},
                "train": {"steps": 500, "lr": lr, "probe_every": 0}, "search": {"trials": 150}, "refit": {"steps": 250},
            }  # fmt: skip
            run = gs.Run(content, workspace)
            if lr == "auto":
                run.execute("train")
                assert run.results.pilot is not None
                yield {"lr": "auto", "pilots": run.results.pilot.to_json()}
                continue
            report = run.execute()
            session = run.session()
            supernet = session.load(session.supernet(), TrainResult)
            tempered, accuracy = scores(
                CandidateEvaluator(supernet, session.data.search), judged_subnets(supernet.space, SEED)
            )
            yield {
                "lr": lr, "tempered": round(tempered, 4), "search": round(100 * accuracy, 2),
                "inherited": report.winner.test_accuracy_inherited, "refitted": report.winner.test_accuracy,
                "parameters": report.winner.parameters, "seconds": report.supernet.seconds,
            }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["groups", "suite", "pilots"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--suite", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = {"groups": groups, "pilots": pilots, "suite": lambda: suite(given.suite)}[given.part]()
    for row in rows:
        with given.out.open("a") as file:
            file.write(json.dumps({"part": given.part} | row) + "\n")
        print(row, flush=True)
