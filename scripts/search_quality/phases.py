"""The units of each phase of the experiments."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from batched import BatchedTraining, Shape
from runner import Runner, Unit
from suite import BETAS, METHODS, RATES, TASKS, Job, batches, everywhere, random_by_gene, random_by_type, tempered

NOTES: dict[str, object] = {}
EXTRA = {"two": 16_000, "toy2": 16_000, "three": 66_000, "toy3": 66_000}
DROPS = {"two", "toy2", "three", "toy3"}
SEED = 3
COST = 36.0
"""Seconds that 24 trainings of 2,000 steps are expected to take."""


def units(phase: str, runner: Runner, worker: int) -> Iterator[Unit]:
    """The units of a phase in the order in which they are taken."""
    yield from {"one": one, "toy": toy, "two": two, "toy2": toy2, "three": three, "toy3": toy3}[phase](runner, worker)


def grid(runner: Runner, task: str, data: str, seed: int = SEED, **more: object) -> list[Job]:
    """The yardstick's jobs: each method at each rate."""
    return [
        Job(task, seed, everywhere(runner.layout, method), rate, data=data, keep_test=True,
            label={"set": "grid", "name": name}, **more)  # type: ignore[arg-type]
        for name, method in METHODS.items() for rate in RATES
    ]  # fmt: skip


def subnets(runner: Runner, kind: str, count: int = 24) -> list[np.ndarray]:
    """The same random subnets for every task."""
    rng = np.random.default_rng([12, {"gene": 0, "type": 1}[kind]])
    return [(random_by_gene if kind == "gene" else random_by_type)(runner.layout, rng) for _ in range(count)]


def random_jobs(runner: Runner, kind: str, task: str, rate: float, seed: int = SEED, **more: object) -> list[Job]:
    """Random subnets of a kind, trained alone at one rate."""
    return [
        Job(task, seed, code, rate, label={"set": kind, "name": f"{kind}{i}"}, **more)  # type: ignore[arg-type]
        for i, code in enumerate(subnets(runner, kind))
    ]


def one(runner: Runner, worker: int) -> Iterator[Unit]:
    """Timings; the yardstick on seed 3; random subnets at one rate."""
    if worker == 0:
        yield "check", 0.0, check
        yield "bench", 0.0, bench
    for data in ("train", "all"):
        for task in TASKS:
            yield f"grid-{data}-{task}", COST, lambda r, t=task, d=data: r.train(grid(r, t, d)) and None
    for kind in ("type", "gene"):
        for task in TASKS:
            yield f"{kind}-{task}", COST, lambda r, t=task, k=kind: r.train(random_jobs(r, k, t, 3e-3)) and None


def toy(runner: Runner, worker: int) -> Iterator[Unit]:
    """A few steps of everything, for the CPU."""
    import suite

    suite.TEST_CAP = 50
    jobs = grid(runner, "digits", "train")[:2]
    for job in jobs:
        job.steps = 3
    yield "toy", 0.0, lambda r: r.train(jobs, capacity=2) and None


def check(runner: Runner) -> None:
    """The captured, compiled bfloat16 step against the plain float32 step."""
    jobs = [grid(runner, task, "train")[k] for task, k in (("digits", 4), ("count", 15), ("font", 21), ("clipart", 8))]
    for job in jobs:
        job.steps = 40
    found = {}
    for name, dtype, fast in (("plain", torch.float32, False), ("fast", torch.bfloat16, True)):
        runner.model.dtype = dtype
        trainer = BatchedTraining(
            runner.model, Shape(4, batch=runner.batch, steps=2000), runner.images, runner.targets, device=runner.device,
            graphed=fast and runner.graphed, compiled=False,
        )  # fmt: skip
        runner.trainers[Shape(4, batch=runner.batch, steps=2000)] = trainer
        runner.train(jobs, capacity=4, score=False)
        found[name] = trainer.losses[:40].cpu().numpy()
        runner.trainers.clear()
    gap = np.abs(found["plain"] - found["fast"]).max(0)
    print("check: losses", found["plain"][[0, 20, 39]].round(3).tolist(), found["fast"][[0, 20, 39]].round(3).tolist())
    NOTES["check"] = {"largest_gap": gap.tolist(), "last": [found["plain"][-1].tolist(), found["fast"][-1].tolist()]}


def bench(runner: Runner) -> None:
    """Milliseconds of a step by number of models."""
    table = []
    for compiled, counts in ((False, (1, 2, 4, 8, 16, 32, 64)), (True, (1, 8, 32, 64))):
        for models in counts:
            begun = time.time()
            trainer = BatchedTraining(
                runner.model, Shape(models, batch=64, steps=100), runner.images, runner.targets, device=runner.device,
                graphed=True, compiled=compiled,
            )  # fmt: skip
            order = batches(np.arange(800), 100, 64, 0)
            trainer.load(
                start=torch.stack([runner.fresh(0)] * models),
                codes=torch.tensor(np.stack([everywhere(runner.layout, METHODS["all"])] * models)),
                rates=torch.full((models, 3), 1e-3),
                image_order=torch.from_numpy(np.stack([order] * models, 1).astype(np.int32)),
            )
            trainer.run(5)
            runner.synchronize()
            ready = time.time() - begun
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            trainer.run(40)
            end.record()
            runner.synchronize()
            ms = start.elapsed_time(end) / 40
            memory = torch.cuda.max_memory_allocated() / 2**30
            table.append({"models": models, "compiled": compiled, "ms": ms, "ready_s": ready, "gib": memory})
            print("bench", models, compiled, f"{ms:.2f} ms, {ms / models:.3f} a model, ready {ready:.0f} s, {memory:.1f} GiB", flush=True)
            del trainer
            for block in runner.model.model.blocks:  # type: ignore[union-attr]
                block._compiled_call_impl = None
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    NOTES["bench"] = table
    NOTES["device"] = torch.cuda.get_device_name()


FOLDS = 5
SHORT = 400


def two(runner: Runner, worker: int) -> Iterator[Unit]:
    """Cross-fitted grids with soups and students; recipes; random subnets; short trainings; supernets."""
    for task in ("count", "fashion", "clipart", "orientation", "font", "digits"):
        yield f"folds-{task}", 66.0, lambda r, t=task: folds(r, t)
    for name, more in RECIPES.items():
        yield f"recipe-{name}", 27.0, lambda r, n=name, m=more: recipe(r, n, m)
    for task in TASKS:
        yield f"random-{task}", 33.0, lambda r, t=task: random_folds(r, t)
    for task in TASKS:
        yield f"short-{task}", 11.0, lambda r, t=task: shorts(r, t)
    for name in ("uniform4", "fair4", "sandwich4"):
        yield f"super-{name}", 42.0, lambda r, n=name: supernets(r, n)
    yield "super-single", 66.0, supernets_single


def toy2(runner: Runner, worker: int) -> Iterator[Unit]:
    """All of `two` with a few steps, for the CPU."""
    import suite

    global SHORT, CAPACITY, SUPER_STEPS, BANK, TOP
    suite.TEST_CAP, runner.batch = 20, 2
    SHORT, CAPACITY, SUPER_STEPS, BANK, TOP = 2, 24, 2, 30, 2
    for name, _, action in two(runner, worker):
        if name.split("-")[1] in ("digits", "base", "uniform4", "sandwich4", "single", "fair4"):
            yield name, 0.0, action


RECIPES: dict[str, dict[str, float]] = {
    "base": {},
    "smoothing": {"smoothing": 0.1},
    "droppath": {"drop_path": 0.1},
    "decay": {"decay": 0.05},
}
CAPACITY = 24
SUPER_STEPS = 1000
BANK = 6000
TOP = 8


def recipe(runner: Runner, name: str, more: dict[str, float]) -> None:
    """Four fixed points on each task under another recipe."""
    points = [("lora8", 1e-3), ("lora8", 3e-3), ("all", 1e-3), ("all", 3e-3)]
    steps = 1000 if SHORT > 10 else SHORT
    jobs = [
        Job(task, SEED, everywhere(runner.layout, METHODS[method]), rate, steps=steps, **more,  # type: ignore[arg-type]
            label={"set": "recipe", "recipe": name, "name": method, "ema": name == "base"})
        for task in TASKS for method, rate in points
    ]  # fmt: skip
    runner.train(jobs, CAPACITY)


def random_folds(runner: Runner, task: str) -> None:
    """Random subnets trained alone: by gene on two folds, by type on one."""
    for kind, fold in (("gene", 0), ("gene", 1), ("type", 0)):
        runner.train(
            random_jobs(runner, kind, task, 3e-3, data=f"fold:{fold}/{FOLDS}", steps=SHORT), CAPACITY
        )


def shorts(runner: Runner, task: str) -> None:
    """Short trainings of random subnets alone."""
    for steps in (50, 100, 200):
        jobs = random_jobs(runner, "gene", task, 3e-3, steps=steps if SHORT > 10 else SHORT)
        for job in jobs:
            job.label["set"] = f"short{steps}"
        trainer_rows(runner, jobs)


def trainer_rows(runner: Runner, jobs: list[Job]) -> None:
    """Train jobs and score them on the search split only."""
    theta, codes = runner.train(jobs, CAPACITY, score=False)
    trainer = fixed_trainer(runner)
    runner.score(trainer, jobs, theta, codes, {}, test=False)


def softmax(z: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    p = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(p / p.sum(-1, keepdims=True))


def folds(runner: Runner, task: str) -> None:
    """The grid on five folds; soups of the folds; students of the ensemble."""
    order = runner.tasks.split(task, SEED)[:1000]
    labels, classes = runner.tasks.labels[order], runner.tasks.classes[task]
    thetas, out = [], np.zeros((24, 1000, classes))
    for fold in range(FOLDS):
        jobs = grid(runner, task, f"fold:{fold}/{FOLDS}")
        for job in jobs:
            job.steps = SHORT
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
    top = best[:TOP].tolist()
    ensemble = np.mean([softmax(out[k] * fits[k][1]) for k in top], 0)
    rng = np.random.default_rng(5)
    one, two_, lam = rng.integers(1000, size=BANK), rng.integers(1000, size=BANK), rng.beta(1.0, 1.0, size=BANK)
    pixels = runner.tasks.images[order]
    bank = (lam[:, None, None, None] * pixels[one] + (1 - lam[:, None, None, None]) * pixels[two_]).round().astype(np.uint8)
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
            Job(task, SEED, everywhere(runner.layout, METHODS[method]), rate, data="all", steps=SHORT, pool=pool,
                smoothing=0.1 if kind == "smooth" else 0.0, keep_test=kind == "hard",
                label={"set": "student", "kind": kind, "name": method})
            for method, rate in points
        ]  # fmt: skip
    runner.train(jobs, CAPACITY)
    NOTES.setdefault("folds", {})[task] = {  # type: ignore[index]
        "oof_tempered": [f[0] for f in fits], "oof_beta": [f[1] for f in fits],
        "oof_acc": [float((z.argmax(1) == labels).mean()) for z in out], "soups": soups, "soup_of_top4": mixed,
        "names": [[name, rate] for name in METHODS for rate in RATES], "oof_ensemble_acc": float((ensemble.argmax(1) == labels).mean()),
    }  # fmt: skip


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
        source = runner.tasks.split(task, SEED)[:800]
        for path in range(shape.paths):
            orders.append(batches(source, steps, runner.batch, 500 + number * 10 + (0 if same else path)))
    trainer.load(
        start=torch.stack([runner.fresh(0)] * len(tasks)), codes=torch.from_numpy(codes),
        rates=torch.tensor([[rate] * 3 for rate in rates]), image_order=torch.from_numpy(np.stack(orders, 1).astype(np.int32)),
        allowed=runner.allowed(tasks),
    )  # fmt: skip
    trainer.run()
    runner.synchronize()
    return trainer


def supernets(runner: Runner, name: str) -> None:
    """One supernet a task with four paths a step; what random subnets score with its weights, and after a warm-up."""
    paths = 4
    shape = Shape(len(TASKS), paths, runner.batch, SUPER_STEPS, drawn=True, distilled=name.startswith("sandwich"))
    begun = time.time()
    codes = drawn_codes(runner, name, SUPER_STEPS, len(TASKS), paths, 1)
    trainer = train_supernets(runner, shape, list(TASKS), codes, [3e-3] * len(TASKS), name.startswith("sandwich"))
    print(name, f"{time.time() - begun:.1f} s", flush=True)
    NOTES.setdefault("super_seconds", {})[name] = time.time() - begun  # type: ignore[index]
    theta = trainer.theta.detach().clone()
    for number, task in enumerate(TASKS):
        inherit(runner, trainer, theta[number], task, name)
        if name != "sandwich4":
            for steps, rate in ((100, 3e-3),):
                jobs = random_jobs(runner, "gene", task, rate, steps=steps if SHORT > 10 else SHORT, start=theta[number])
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
    steps = 2 * SUPER_STEPS
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


LONG = 1000
STUDENT_STEPS = 1500
YARD_STEPS = 2000
MIXES = 10_000
PLAN = Path(__file__).resolve().parents[1] / "plan.json"
"""Of each task the two best by cross-fitting, and what the yardstick picks: method, rate (and temperature)."""


def three(runner: Runner, worker: int) -> Iterator[Unit]:
    """The last experiments: worker 0 the yardstick and random subnets, worker 1 the recipe and supernets."""
    if worker == 0:
        for task in ("count", "orientation"):
            yield f"grid-train-{task}", 51.0, lambda r, t=task: r.train(grid(r, t, "train", steps=YARD_STEPS)) and None
        yield "retrain", 52.0, retrain
        for task in ("count", "orientation", "fashion", "font", "clipart", "digits"):
            yield f"slow-{task}", 11.0, lambda r, t=task: slow_random(r, t)
        yield "super-sandwich4", 60.0, lambda r: supernets(r, "sandwich4")
    else:
        yield "soups", 50.0, final_soups
        yield "students", 65.0, final_students
        yield "super-uniform4", 85.0, lambda r: supernets(r, "uniform4")
        yield "super-single", 70.0, supernets_single


def toy3(runner: Runner, worker: int) -> Iterator[Unit]:
    """All of `three` with a few steps, for the CPU."""
    import suite

    global SHORT, SUPER_STEPS, LONG, STUDENT_STEPS, YARD_STEPS, MIXES
    suite.TEST_CAP, runner.batch = 20, 2
    SHORT = SUPER_STEPS = LONG = STUDENT_STEPS = YARD_STEPS = 2
    MIXES = 20
    for one_worker in (0, 1):
        for name, _, action in three(runner, one_worker):
            if name in ("grid-train-count", "grid-train-orientation", "retrain", "soups", "students", "slow-count", "super-single"):
                yield name, 0.0, action


def slow_random(runner: Runner, task: str) -> None:
    """Random subnets by type at the lowest rate, on fold 0."""
    jobs = random_jobs(runner, "type", task, 1e-3, data=f"fold:0/{FOLDS}", steps=SHORT)
    for job in jobs:
        job.label["set"] = "type-slow"
    runner.train(jobs, CAPACITY)


def fixed_trainer(runner: Runner) -> BatchedTraining:
    """The trainer of 24 separate models."""
    return next(t for s, t in runner.trainers.items() if s.models == CAPACITY and not s.drawn)


def point(runner: Runner, task: str, method: str, rate: float, steps: int, label: dict[str, object], **more: object) -> Job:
    """A fixed method on all of train + search, from the one start that all averages share."""
    start = runner.fresh(0)
    return Job(task, SEED, everywhere(runner.layout, METHODS[method]), rate, data="all", steps=steps, start=start,
               keep_test=True, label={**label, "name": method}, **more)  # type: ignore[arg-type]  # fmt: skip


def retrain(runner: Runner) -> None:
    """What the yardstick picks, trained again on all; the cross-fitted pick likewise, in two orders."""
    plan = json.loads(PLAN.read_text())
    jobs = []
    for task in TASKS:
        own = plan[task]
        if "yard_tempered" not in own:
            seen = [row for row in runner.rows if row["task"] == task and row["set"] == "grid"]
            first = min(seen, key=lambda row: row["tempered"])
            second = min(seen, key=lambda row: (-row["acc"], row["tempered"]))  # type: ignore[operator]
            own["yard_tempered"], own["yard_acc"] = [first["name"], first["lr"]], [second["name"], second["lr"]]
        for kind in ("yard_tempered", "yard_acc"):
            jobs.append(point(runner, task, *own[kind], YARD_STEPS, {"set": "retrain", "kind": kind}))
        for order in (0, 1):
            jobs.append(point(runner, task, *own["P1"][:2], YARD_STEPS, {"set": "retrain", "kind": "P1"}, order=order))
    theta, codes = runner.train(jobs, CAPACITY)
    NOTES["plan"] = plan
    mixtures(runner, theta, codes, [(task, [4 * i + 2, 4 * i + 3], "P1 2000 steps") for i, task in enumerate(TASKS)])


def mixtures(runner: Runner, theta: torch.Tensor, codes: torch.Tensor, groups: list[tuple[str, list[int], str]]) -> None:
    """Test accuracy of averaged merged weights and of averaged outputs."""
    trainer = fixed_trainer(runner)
    for task, members, name in groups:
        job = Job(task, SEED, np.zeros(0), 0.0, data="all")
        test = torch.from_numpy(runner.tasks.sets(job)[2])
        truth, classes = runner.tasks.labels[test.numpy()], runner.tasks.classes[task]
        rows, same = theta[members], codes[members]
        mix = torch.full((1, len(members)), 1 / len(members))
        soup = trainer.average_logits(mix, rows, same, test[None]).cpu().numpy()[0, :, :classes]
        every = trainer.logits(rows, same, test.repeat(len(members), 1)).cpu().numpy()[..., :classes]
        NOTES.setdefault("mixtures", []).append(  # type: ignore[attr-defined]
            {"task": task, "name": name, "members": len(members), "soup": float((soup.argmax(1) == truth).mean()),
             "outputs": float((softmax(every).mean(0).argmax(1) == truth).mean()),
             "single": float((every.argmax(-1) == truth).mean())}
        )  # fmt: skip


KEPT: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}


def final_soups(runner: Runner) -> None:
    """The two best points in four orders each, with drop path, on all of train + search; their averages."""
    plan = json.loads(PLAN.read_text())
    for kind in ("P1", "P2"):
        jobs = [
            point(runner, task, *plan[task][kind][:2], LONG, {"set": "final", "kind": kind}, order=order, drop_path=0.1)
            for task in TASKS for order in range(4)
        ]  # fmt: skip
        theta, codes = runner.train(jobs, CAPACITY)
        KEPT[kind] = theta, codes
        for size in (2, 4):
            mixtures(
                runner, theta, codes,
                [(task, list(range(4 * i, 4 * i + size)), f"{kind} drop path {LONG} steps") for i, task in enumerate(TASKS)],
            )  # fmt: skip


def final_students(runner: Runner) -> None:
    """Students of the eight finalists on mixed images."""
    plan = json.loads(PLAN.read_text())
    trainer = fixed_trainer(runner)
    size = MIXES + 1000
    pools = {}
    for number, task in enumerate(TASKS):
        order, classes = runner.tasks.split(task, SEED)[:1000], runner.tasks.classes[task]
        rng = np.random.default_rng(6)
        one_, two_, lam = rng.integers(1000, size=MIXES), rng.integers(1000, size=MIXES), rng.beta(1.0, 1.0, size=MIXES)
        weight, pixels = lam[:, None, None, None], runner.tasks.images[order]
        bank = (weight * pixels[one_] + (1 - weight) * pixels[two_]).round().astype(np.uint8)
        first = runner.first_extra + number * size
        place = slice(first, first + size)
        runner.images[place] = torch.from_numpy(np.concatenate([bank, pixels])).to(runner.device)
        taught = np.zeros((size, classes))
        where = torch.arange(first, first + size)
        for kind, (theta, codes) in KEPT.items():
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
            ("P1", method, rate, 0, 0.0), ("P1", method, rate, 1, 0.0), ("P1 drop", method, rate, 0, 0.1), ("all", "all", 3e-3, 0, 0.0),
        ):  # fmt: skip
            jobs.append(
                point(runner, task, own, other, STUDENT_STEPS, {"set": "taught", "kind": kind}, order=order, drop_path=drop, pool=pools[task])
            )
    theta, codes = runner.train(jobs, CAPACITY)
    mixtures(runner, theta, codes, [(task, [4 * i, 4 * i + 1], "students") for i, task in enumerate(TASKS)])
