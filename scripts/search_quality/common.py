"""The jobs that the experiments share: the yardstick's grid, random subnets, points of the recipe."""

from __future__ import annotations

import numpy as np
import torch
from batched import BatchedTraining
from runner import Runner
from suite import METHODS, RATES, Job, everywhere, random_by_gene, random_by_type

FOLDS = 5
CAPACITY = 24
"""Models that train side by side."""


def grid(runner: Runner, task: str, data: str, **more: object) -> list[Job]:
    """The yardstick's jobs: each method at each rate."""
    return [
        Job(
            task,
            runner.seed,
            everywhere(runner.layout, method),
            rate,
            data=data,
            keep_test=True,
            label={"set": "grid", "name": name},
            **more,
        )  # type: ignore[arg-type]
        for name, method in METHODS.items()
        for rate in RATES
    ]


def subnets(runner: Runner, kind: str, count: int = 24) -> list[np.ndarray]:
    """The same random subnets for every task."""
    rng = np.random.default_rng([12, {"gene": 0, "type": 1}[kind]])
    return [(random_by_gene if kind == "gene" else random_by_type)(runner.layout, rng) for _ in range(count)]


def random_jobs(runner: Runner, kind: str, task: str, rate: float, **more: object) -> list[Job]:
    """Random subnets of a kind, trained alone at one rate."""
    return [
        Job(task, runner.seed, code, rate, label={"set": kind, "name": f"{kind}{i}"}, **more)  # type: ignore[arg-type]
        for i, code in enumerate(subnets(runner, kind))
    ]


def fixed_trainer(runner: Runner) -> BatchedTraining:
    """The trainer of 24 separate models."""
    return next(t for s, t in runner.trainers.items() if s.models == CAPACITY and not s.drawn)


def trainer_rows(runner: Runner, jobs: list[Job]) -> None:
    """Train jobs and score them on the search split only."""
    theta, codes = runner.train(jobs, CAPACITY, score=False)
    trainer = fixed_trainer(runner)
    runner.score(trainer, jobs, theta, codes, {}, test=False)


def point(
    runner: Runner, task: str, method: str, rate: float, steps: int, label: dict[str, object], **more: object
) -> Job:
    """A fixed method on all of train + search, from the one start that all averages share."""
    start = runner.fresh(0)
    return Job(
        task,
        runner.seed,
        everywhere(runner.layout, METHODS[method]),
        rate,
        data="all",
        steps=steps,
        start=start,
        keep_test=True,
        label={**label, "name": method},
        **more,
    )  # type: ignore[arg-type]


def mixtures(
    runner: Runner, theta: torch.Tensor, codes: torch.Tensor, groups: list[tuple[str, list[int], str]]
) -> None:
    """Test accuracy of averaged merged weights and of averaged outputs."""
    trainer = fixed_trainer(runner)
    for task, members, name in groups:
        job = Job(task, runner.seed, np.zeros(0), 0.0, data="all")
        test = torch.from_numpy(runner.tasks.sets(job)[2])
        truth, classes = runner.tasks.labels[test.numpy()], runner.tasks.classes[task]
        rows, same = theta[members], codes[members]
        mix = torch.full((1, len(members)), 1 / len(members))
        soup = trainer.average_logits(mix, rows, same, test[None]).cpu().numpy()[0, :, :classes]
        every = trainer.logits(rows, same, test.repeat(len(members), 1)).cpu().numpy()[..., :classes]
        runner.notes.setdefault("mixtures", []).append(  # type: ignore[attr-defined]
            {
                "task": task,
                "name": name,
                "members": len(members),
                "soup": float((soup.argmax(1) == truth).mean()),
                "outputs": float((softmax(every).mean(0).argmax(1) == truth).mean()),
                "single": float((every.argmax(-1) == truth).mean()),
            }
        )


def softmax(z: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    p = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(p / p.sum(-1, keepdims=True))
