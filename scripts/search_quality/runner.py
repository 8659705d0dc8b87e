"""Runs jobs, 24 at a time side by side, and keeps what they score."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batched import BatchedTraining
from batched_model import BatchedModel
from layout import Layout
from shape import Shape
from suite import CLASSES, TASKS, Job, Tasks, backbone, batches, make_layout, tempered
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """Steps of the experiments, and how many mixed images students learn from."""

    short: int = 400
    long: int = 1000
    student: int = 1500
    yardstick: int = 2000
    supernet: int = 1000
    mixes: int = 10_000

    @property
    def longest(self) -> int:
        """The most steps of any training."""
        return max(self.long, self.student, self.yardstick)


TOY = Sizes(2, 2, 2, 2, 2, 20)


class Runner:
    """One device: the pool of images, the batched model, and a trainer for each shape of step."""

    def __init__(
        self,
        folder: Path,
        *,
        device: str,
        dtype: torch.dtype,
        graphed: bool,
        compiled: bool,
        tasks: Sequence[str] = TASKS,
        drop_path: bool = False,
        extra: int = 0,
        seed: int = 3,
        toy: bool = False,
    ) -> None:
        """`extra`: room for further images and targets; `seed`: of the splits."""
        self.folder, self.seed, self.sizes = folder, seed, TOY if toy else Sizes()
        self.notes: dict[str, Any] = {}
        self.tasks = Tasks(folder / "tasks.npz", tasks, test=20 if toy else 2200)
        model = backbone(folder / "backbone", toy=toy).to(device)
        self.layout: Layout = make_layout(model)
        self.model = BatchedModel(model, self.layout, dtype=dtype, drop_path=drop_path).to(device)
        count = len(self.tasks.images)
        images = torch.zeros(count + extra, *self.tasks.images.shape[1:], dtype=torch.uint8)
        images[:count] = torch.from_numpy(self.tasks.images)
        targets = torch.zeros(count + extra, CLASSES)
        targets[torch.arange(count), torch.from_numpy(self.tasks.labels)] = 1
        self.first_extra = count
        self.images, self.targets = images.to(device), targets.to(device)
        self.device, self.graphed, self.compiled, self.batch = device, graphed, compiled, 2 if toy else 64
        self.trainers: dict[Shape, BatchedTraining] = {}
        self.rows: list[dict[str, Any]] = []
        self.logits: dict[str, np.ndarray] = {}

    def trainer(self, shape: Shape) -> BatchedTraining:
        """The trainer of a shape, made once."""
        if shape not in self.trainers:
            self.trainers[shape] = BatchedTraining(
                self.model,
                shape,
                self.images,
                self.targets,
                device=self.device,
                graphed=self.graphed,
                compiled=self.compiled,
            )
        return self.trainers[shape]

    def allowed(self, tasks: Sequence[str]) -> Tensor:
        """`(M, classes)`: 1 for the classes of each task."""
        table = torch.zeros(len(tasks), CLASSES)
        for row, task in enumerate(tasks):
            table[row, : self.tasks.classes[task]] = 1
        return table

    def fresh(self, order: int) -> Tensor:
        """A fresh row of parameters."""
        return self.layout.start(torch.Generator().manual_seed(1000 + order)).float()

    def train(self, jobs: Sequence[Job], capacity: int = 24, score: bool = True) -> tuple[Tensor, Tensor]:
        """Train jobs side by side and score them; returns their rows `(M, P)` and codes.

        The shape of the step is always that of `capacity` models; missing jobs are repeated.
        """
        if len(jobs) > capacity:
            raise ValueError(f"{len(jobs)} jobs, room for {capacity}")
        real, jobs = len(jobs), [*jobs, *[jobs[-1]] * (capacity - len(jobs))]
        longest = max(job.steps for job in jobs)
        trainer = self.trainer(Shape(capacity, batch=self.batch, steps=max(2000, longest)))
        orders = []
        for job in jobs:
            source = self.tasks.sets(job)[0]
            if job.pool is not None:
                source = np.arange(*job.pool)
            order = batches(source, job.steps, self.batch, 100 * job.seed + job.order)
            pad = np.repeat(order[-1:], longest - job.steps, 0)
            orders.append(np.concatenate([order, pad]))
        codes = torch.tensor(np.stack([job.code for job in jobs]))
        rates = torch.tensor([(job.lr,) * 3 if isinstance(job.lr, float) else job.lr for job in jobs])
        started = time.perf_counter()
        trainer.load(
            start=torch.stack([self.fresh(job.order) if job.start is None else job.start.cpu() for job in jobs]),
            codes=codes,
            rates=rates,
            image_order=torch.from_numpy(np.stack(orders, 1).astype(np.int32)),
            steps=torch.tensor([float(job.steps) for job in jobs]),
            warmup=torch.tensor([min(50.0, job.steps / 10) for job in jobs]),
            decay=torch.tensor([job.decay for job in jobs]),
            smoothing=torch.tensor([job.smoothing for job in jobs]),
            ema_decay=torch.tensor([job.ema for job in jobs]),
            allowed=self.allowed([job.task for job in jobs]),
            drop_path=torch.tensor([job.drop_path for job in jobs]),
        )
        trainer.run()
        self.synchronize()
        seconds = time.perf_counter() - started
        theta = trainer.theta.detach().clone()
        if score:
            self.score(trainer, jobs[:real], theta, codes, {"seconds": seconds / real})
            self.score_ema(trainer, jobs[:real], codes)
        return theta[:real], codes[:real]

    def score_ema(self, trainer: BatchedTraining, jobs: Sequence[Job], codes: Tensor) -> None:
        """Score the moving averages of jobs that ask for it."""
        if any(job.label.get("ema") for job in jobs):
            kept = [replace(job, label={**job.label, "averaged": 1}) for job in jobs]
            self.score(trainer, kept, trainer.ema.clone(), codes, {})

    def score(
        self,
        trainer: BatchedTraining,
        jobs: Sequence[Job],
        theta: Tensor,
        codes: Tensor,
        more: dict[str, object],
        test: bool = True,
    ) -> list[dict[str, object]]:
        """Score rows on their held-out and test images."""
        sets = [self.tasks.sets(job) for job in jobs]
        held = [one[1] for one in sets]
        tests = [one[2] if test else one[2][:0] for one in sets]
        width = max(len(h) + len(t) for h, t in zip(held, tests, strict=True))
        index = np.stack([np.resize(np.concatenate([h, t]), width) for h, t in zip(held, tests, strict=True)])
        theta, codes = theta[: len(jobs)], codes[: len(jobs)]
        found = trainer.logits(theta, codes, torch.from_numpy(index)).cpu().numpy()
        sizes = self.layout.size(codes.to(self.device)).tolist()
        made = []
        for row, job in enumerate(jobs):
            classes, cut = self.tasks.classes[job.task], len(held[row])
            z = found[row, :, :classes]
            labels = self.tasks.labels
            record = self.record(job, z[:cut], labels[held[row]], z[cut : cut + len(tests[row])], labels[tests[row]])
            record |= {"size": sizes[row], **more}
            made.append(record)
        return made

    def record(
        self, job: Job, held: np.ndarray, held_y: np.ndarray, test: np.ndarray, test_y: np.ndarray
    ) -> dict[str, object]:
        """Keep the scores of logits."""
        number = len(self.rows)
        score, beta = tempered(held, held_y)
        z = held.astype(np.float64)
        logs = z - z.max(1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(1, keepdims=True))
        row: dict[str, object] = {
            "number": number,
            "task": job.task,
            "seed": job.seed,
            "data": job.data,
            "steps": job.steps,
            "lr": list(job.lr) if isinstance(job.lr, tuple) else job.lr,
            "order": job.order,
            **{key: value for key, value in job.label.items() if key != "ema"},
            "acc": float((held.argmax(1) == held_y).mean()),
            "tempered": score,
            "beta": beta,
            "ce": float(-logs[np.arange(len(z)), held_y].mean()),
        }
        self.logits[f"h{number}"] = held.astype(np.float16)
        if len(test):
            row["test"] = float((test.argmax(1) == test_y).mean())
            row["test_tempered"] = tempered(test, test_y, np.exp(np.linspace(np.log(0.05), np.log(5), 15)))[0]
            if job.keep_test:
                self.logits[f"t{number}"] = test[:1500].astype(np.float16)
        self.rows.append(row)
        return row

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


Unit = tuple[str, float, Callable[[Runner], None]]
"""Name, seconds that it is expected to take, what it does."""
