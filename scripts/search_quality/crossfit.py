"""Cross-fitting: the grid on folds of train + search, soups and students; recipes; random subnets trained alone."""

from __future__ import annotations

import numpy as np
import torch
from common import CAPACITY, FOLDS, fixed_trainer, grid, random_jobs, softmax, trainer_rows
from runner import Runner
from suite import METHODS, RATES, TASKS, Job, everywhere, tempered

RECIPES: dict[str, dict[str, float]] = {
    "base": {},
    "smoothing": {"smoothing": 0.1},
    "droppath": {"drop_path": 0.1},
    "decay": {"decay": 0.05},
}
TEACHERS = 8
"""The best so many by cross-fitting teach the students."""


def recipe(runner: Runner, name: str, more: dict[str, float]) -> None:
    """Four fixed points on each task under another recipe."""
    points = [("lora8", 1e-3), ("lora8", 3e-3), ("all", 1e-3), ("all", 3e-3)]
    steps = runner.sizes.long
    jobs = [
        Job(
            task,
            runner.seed,
            everywhere(runner.layout, METHODS[method]),
            rate,
            steps=steps,
            **more,  # type: ignore[arg-type]
            label={"set": "recipe", "recipe": name, "name": method, "ema": name == "base"},
        )
        for task in TASKS
        for method, rate in points
    ]
    runner.train(jobs, CAPACITY)


def random_folds(runner: Runner, task: str) -> None:
    """Random subnets trained alone: by gene on two folds, by type on one."""
    for kind, fold in (("gene", 0), ("gene", 1), ("type", 0)):
        runner.train(
            random_jobs(runner, kind, task, 3e-3, data=f"fold:{fold}/{FOLDS}", steps=runner.sizes.short), CAPACITY
        )


def slow_random(runner: Runner, task: str) -> None:
    """Random subnets by type at the lowest rate, on fold 0."""
    jobs = random_jobs(runner, "type", task, 1e-3, data=f"fold:0/{FOLDS}", steps=runner.sizes.short)
    for job in jobs:
        job.label["set"] = "type-slow"
    runner.train(jobs, CAPACITY)


def shorts(runner: Runner, task: str) -> None:
    """Short trainings of random subnets alone."""
    for steps in (50, 100, 200):
        jobs = random_jobs(runner, "gene", task, 3e-3, steps=min(steps, runner.sizes.longest))
        for job in jobs:
            job.label["set"] = f"short{steps}"
        trainer_rows(runner, jobs)


def folds(runner: Runner, task: str) -> None:
    """The grid on five folds; soups of the folds; students of the ensemble."""
    order = runner.tasks.split(task, runner.seed)[:1000]
    labels, classes = runner.tasks.labels[order], runner.tasks.classes[task]
    thetas, out = [], np.zeros((24, 1000, classes))
    for fold in range(FOLDS):
        jobs = grid(runner, task, f"fold:{fold}/{FOLDS}")
        for job in jobs:
            job.steps = runner.sizes.short
        first = len(runner.rows)
        theta, codes = runner.train(jobs, CAPACITY)
        thetas.append(theta)
        for k in range(24):
            out[k, fold::FOLDS] = runner.logits[f"h{first + k}"].astype(np.float64)
    trainer = fixed_trainer(runner)
    fits = [tempered(z, labels) for z in out]
    best = np.argsort([score for score, _ in fits])
    # soups: the mean of the merged weights of the five folds
    test = torch.from_numpy(runner.tasks.sets(jobs[0])[2])
    truth = runner.tasks.labels[test.numpy()]
    soups = {}
    groups = [list(range(k, k + 4)) for k in range(0, 24, 4)]
    for group in groups:
        rows = torch.cat([thetas[f][group] for f in range(FOLDS)])
        same = torch.cat([codes[group]] * FOLDS)
        mix = torch.cat([torch.eye(4)] * FOLDS, 1) / FOLDS
        found = trainer.average_logits(mix, rows, same, test.repeat(4, 1)).cpu().numpy()[..., :classes]
        for k, z in zip(group, found, strict=True):
            soups[k] = float((z.argmax(1) == truth).mean())
    top = best[:4].tolist()
    rows, same = torch.cat([thetas[f][top] for f in range(FOLDS)]), torch.cat([codes[top]] * FOLDS)
    z = trainer.average_logits(torch.full((1, 20), 1 / 20), rows, same, test[None]).cpu().numpy()[0, :, :classes]
    mixed = float((z.argmax(1) == truth).mean())
    # ensemble teachers
    top = best[:TEACHERS].tolist()
    ensemble = np.mean([softmax(out[k] * fits[k][1]) for k in top], 0)
    rng = np.random.default_rng(5)
    one, two_, lam = (
        rng.integers(1000, size=runner.sizes.mixes),
        rng.integers(1000, size=runner.sizes.mixes),
        rng.beta(1.0, 1.0, size=runner.sizes.mixes),
    )
    pixels = runner.tasks.images[order]
    bank = (
        (lam[:, None, None, None] * pixels[one] + (1 - lam[:, None, None, None]) * pixels[two_])
        .round()
        .astype(np.uint8)
    )
    hard = np.eye(12)[labels]
    mixed_labels = lam[:, None] * hard[one] + (1 - lam[:, None]) * hard[two_]
    base = runner.first_extra
    everything = np.concatenate([bank, pixels])
    n = len(everything)
    spots = {"oof5": (0, 1000), "oof10": (1000, 2000), "mixT": (2000, 2000 + n), "mixH": (2000 + n, 2000 + 2 * n)}

    def put(at: int, images: np.ndarray, targets: np.ndarray) -> None:
        wide = np.zeros((len(targets), 12), dtype=np.float32)
        wide[:, : targets.shape[1]] = targets
        place = slice(base + at, base + at + len(images))
        runner.images[place] = torch.from_numpy(images).to(runner.device)
        runner.targets[place] = torch.from_numpy(wide).to(runner.device)

    put(0, pixels, 0.5 * ensemble + 0.5 * hard[:, :classes])
    put(1000, pixels, ensemble)
    put(2000 + n, everything, np.concatenate([mixed_labels, hard])[:, :classes])
    put(2000, everything, np.concatenate([mixed_labels, hard])[:, :classes])
    where = torch.arange(base + 2000, base + 2000 + n)
    taught = np.zeros((n, classes))
    for fold in range(FOLDS):
        z = trainer.logits(thetas[fold][top], codes[top], where.repeat(len(top), 1), 256).cpu().numpy()[..., :classes]
        taught += np.sum([softmax(z[i] * fits[k][1]) for i, k in enumerate(top)], 0)
    taught /= FOLDS * len(top)
    put(2000, everything, taught)
    del thetas
    points = [("lora8", 1e-3), ("lora16", 1e-3), ("all", 1e-3), ("all", 3e-3)]
    jobs = []
    for kind in ("hard", "smooth", *spots):
        pool = (base + spots[kind][0], base + spots[kind][1]) if kind in spots else None
        jobs += [
            Job(
                task,
                runner.seed,
                everywhere(runner.layout, METHODS[method]),
                rate,
                data="all",
                steps=runner.sizes.short,
                pool=pool,
                smoothing=0.1 if kind == "smooth" else 0.0,
                keep_test=kind == "hard",
                label={"set": "student", "kind": kind, "name": method},
            )
            for method, rate in points
        ]
    runner.train(jobs, CAPACITY)
    runner.notes.setdefault("folds", {})[task] = {  # type: ignore[index]
        "oof_tempered": [f[0] for f in fits],
        "oof_beta": [f[1] for f in fits],
        "oof_acc": [float((z.argmax(1) == labels).mean()) for z in out],
        "soups": soups,
        "soup_of_top4": mixed,
        "names": [[name, rate] for name in METHODS for rate in RATES],
        "oof_ensemble_acc": float((ensemble.argmax(1) == labels).mean()),
    }
