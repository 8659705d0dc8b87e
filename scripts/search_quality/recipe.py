"""The recipe against the yardstick: finalists with drop path, their averages, and a student of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from common import CAPACITY, fixed_trainer, mixtures, point, softmax
from runner import Runner
from suite import TASKS
from torch import Tensor

PLAN = "plan.json"
"""Beside the tasks: of each task `P1` and `P2`, the two best by cross-fitting (method, rate, temperature), and
`yard_tempered` and `yard_acc`, what the yardstick picks (method, rate); these two are found here if missing."""


def read_plan(runner: Runner) -> dict[str, dict[str, Any]]:
    """The plan of the runner's seed."""
    plan: dict[str, dict[str, Any]] = json.loads((runner.folder / PLAN).read_text())
    return plan


def retrain(runner: Runner) -> None:
    """What the yardstick picks, trained again on all; the cross-fitted pick likewise, in two orders."""
    plan = read_plan(runner)
    jobs = []
    for task in TASKS:
        own = plan[task]
        if "yard_tempered" not in own:
            seen = [row for row in runner.rows if row["task"] == task and row["set"] == "grid"]
            first = min(seen, key=lambda row: row["tempered"])
            second = min(seen, key=lambda row: (-row["acc"], row["tempered"]))
            own["yard_tempered"], own["yard_acc"] = [first["name"], first["lr"]], [second["name"], second["lr"]]
        steps = runner.sizes.yardstick
        for kind, orders in (("yard_tempered", 1), ("yard_acc", 1), ("P1", 2)):
            label: dict[str, object] = {"set": "retrain", "kind": kind}
            jobs += [point(runner, task, *own[kind][:2], steps, label, order=order) for order in range(orders)]
    theta, codes = runner.train(jobs, CAPACITY)
    runner.notes["plan"] = plan
    mixtures(runner, theta, codes, [(task, [4 * i + 2, 4 * i + 3], "P1 2000 steps") for i, task in enumerate(TASKS)])


def finalists(runner: Runner) -> None:
    """The two best points in four orders each, with drop path; their averages; students of all eight."""
    kept: dict[str, tuple[Tensor, Tensor]] = {}
    plan = read_plan(runner)
    for kind in ("P1", "P2"):
        jobs = [
            point(
                runner,
                task,
                *plan[task][kind][:2],
                runner.sizes.long,
                {"set": "final", "kind": kind},
                order=order,
                drop_path=0.1,
            )
            for task in TASKS
            for order in range(4)
        ]
        theta, codes = runner.train(jobs, CAPACITY)
        kept[kind] = theta, codes
        for size in (2, 4):
            mixtures(
                runner,
                theta,
                codes,
                [
                    (task, list(range(4 * i, 4 * i + size)), f"{kind} drop path {runner.sizes.long} steps")
                    for i, task in enumerate(TASKS)
                ],
            )
    students(runner, plan, kept)


def students(runner: Runner, plan: dict[str, dict[str, Any]], kept: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Train students of the finalists on mixed images; the targets are the mean of their tempered outputs."""
    trainer = fixed_trainer(runner)
    size = runner.sizes.mixes + 1000
    pools = {}
    for number, task in enumerate(TASKS):
        order, classes = runner.tasks.split(task, runner.seed)[:1000], runner.tasks.classes[task]
        rng = np.random.default_rng(6)
        one, two = rng.integers(1000, size=(2, runner.sizes.mixes))
        share = rng.random((runner.sizes.mixes, 1, 1, 1))
        pixels = runner.tasks.images[order]
        bank = (share * pixels[one] + (1 - share) * pixels[two]).round().astype(np.uint8)
        first = runner.first_extra + number * size
        place = slice(first, first + size)
        runner.images[place] = torch.from_numpy(np.concatenate([bank, pixels])).to(runner.device)
        taught = np.zeros((size, classes))
        where = torch.arange(first, first + size)
        for kind, (theta, codes) in kept.items():
            rows, beta = list(range(4 * number, 4 * number + 4)), plan[task][kind][2]
            z = trainer.logits(theta[rows], codes[rows], where.repeat(4, 1), 512).cpu().numpy()[..., :classes]
            taught += softmax(z * min(beta, 1.0)).sum(0) / 8
        wide = np.zeros((size, 12), dtype=np.float32)
        wide[:, :classes] = taught
        runner.targets[place] = torch.from_numpy(wide).to(runner.device)
        pools[task] = first, first + size
    jobs = []
    for task in TASKS:
        method, rate = plan[task]["P1"][:2]
        for kind, own, other, order, drop in (
            ("P1", method, rate, 0, 0.0),
            ("P1", method, rate, 1, 0.0),
            ("P1 drop", method, rate, 0, 0.1),
            ("all", "all", 3e-3, 0, 0.0),
        ):
            jobs.append(
                point(
                    runner,
                    task,
                    own,
                    other,
                    runner.sizes.student,
                    {"set": "taught", "kind": kind},
                    order=order,
                    drop_path=drop,
                    pool=pools[task],
                )
            )
    theta, codes = runner.train(jobs, CAPACITY)
    mixtures(runner, theta, codes, [(task, [4 * i, 4 * i + 1], "students") for i, task in enumerate(TASKS)])
