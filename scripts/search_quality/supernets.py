"""Supernets trained in several ways, and what random subnets score with their weights."""

from __future__ import annotations

import time

import numpy as np
import torch
from batched import BatchedTraining
from common import random_jobs, trainer_rows
from runner import Runner
from shape import Shape
from suite import TASKS, batches


def drawn_codes(runner: Runner, name: str, steps: int, supernets: int, paths: int, seed: int) -> np.ndarray:
    """`(steps, supernets * paths, G)`: the subnets of each step."""
    rng = np.random.default_rng([seed, 4])
    layout = runner.layout
    codes = np.zeros((steps, supernets, paths, len(layout.genes)), dtype=np.uint8)
    for gene in range(len(layout.genes)):
        options = len(layout.options(gene))
        if name.startswith("fair"):
            cycles = -(-steps * paths // options)
            drawn = np.argsort(rng.random((supernets, cycles, options)), -1).reshape(supernets, -1)
            codes[..., gene] = drawn[:, : steps * paths].reshape(supernets, steps, paths).transpose(1, 0, 2)
        else:
            codes[..., gene] = rng.integers(options, size=(steps, supernets, paths))
        if name.startswith("sandwich"):
            codes[:, :, 0, gene], codes[:, :, -1, gene] = options - 1, 0
    return codes.reshape(steps, supernets * paths, -1)


def train_supernets(
    runner: Runner, shape: Shape, tasks: list[str], codes: np.ndarray, rates: list[float], same: bool
) -> BatchedTraining:
    """Train one supernet a task of `tasks`."""
    trainer = runner.trainer(shape)
    steps = len(codes)
    orders = []
    for number, task in enumerate(tasks):
        source = runner.tasks.split(task, runner.seed)[:800]
        seeds = [500 + number * 10 + (0 if same else path) for path in range(shape.paths)]
        orders += [batches(source, steps, runner.batch, seed) for seed in seeds]
    trainer.load(
        start=torch.stack([runner.fresh(0)] * len(tasks)),
        codes=torch.from_numpy(codes),
        rates=torch.tensor([[rate] * 3 for rate in rates]),
        image_order=torch.from_numpy(np.stack(orders, 1).astype(np.int32)),
        allowed=runner.allowed(tasks),
    )
    trainer.run()
    runner.synchronize()
    return trainer


def supernets(runner: Runner, name: str) -> None:
    """One supernet a task with four paths a step; what random subnets score with its weights, and after a warm-up."""
    paths = 4
    shape = Shape(
        len(TASKS), paths, runner.batch, runner.sizes.supernet, drawn=True, distilled=name.startswith("sandwich")
    )
    begun = time.time()
    codes = drawn_codes(runner, name, runner.sizes.supernet, len(TASKS), paths, 1)
    trainer = train_supernets(runner, shape, list(TASKS), codes, [3e-3] * len(TASKS), name.startswith("sandwich"))
    print(name, f"{time.time() - begun:.1f} s", flush=True)
    runner.notes.setdefault("super_seconds", {})[name] = time.time() - begun  # type: ignore[index]
    theta = trainer.theta.detach().clone()
    for number, task in enumerate(TASKS):
        inherit(runner, trainer, theta[number], task, name)
        if name != "sandwich4":
            for steps, rate in ((100, 3e-3),):
                jobs = random_jobs(
                    runner, "gene", task, rate, steps=min(steps, runner.sizes.longest), start=theta[number]
                )
                for job in jobs:
                    job.label["set"] = f"warm{steps}-{name}"
                trainer_rows(runner, jobs)


def inherit(runner: Runner, trainer: BatchedTraining, theta: torch.Tensor, task: str, name: str) -> None:
    """Score random subnets with the weights of a supernet."""
    for kind in ("gene", "type"):
        jobs = random_jobs(runner, kind, task, 0.0)
        for job in jobs:
            job.label["set"] = f"inherit-{kind}-{name}"
        codes = torch.tensor(np.stack([job.code for job in jobs]))
        runner.score(trainer, jobs, theta.expand(len(jobs), -1), codes, {}, test=False)


def supernets_single(runner: Runner) -> None:
    """Supernets with one path a step: four ways a task."""
    steps = 2 * runner.sizes.supernet
    ways = [("uniform1", 1e-3), ("uniform1", 3e-3), ("uniform1", 1e-2), ("fair1", 3e-3)]
    parts = [drawn_codes(runner, name, steps, len(TASKS), 1, 2 + i) for i, (name, _) in enumerate(ways)]
    shape = Shape(24, 1, runner.batch, steps, drawn=True)
    trainer = train_supernets(
        runner, shape, list(TASKS) * 4, np.concatenate(parts, 1), [rate for _, rate in ways for _ in TASKS], False
    )
    theta = trainer.theta.detach().clone()
    for way, (name, rate) in enumerate(ways):
        for number, task in enumerate(TASKS):
            inherit(runner, trainer, theta[way * len(TASKS) + number], task, f"{name}-{rate:g}")
