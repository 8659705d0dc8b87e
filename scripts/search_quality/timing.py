"""Milliseconds of a step, and the captured bfloat16 step against the plain float32 step."""

from __future__ import annotations

import gc
import time

import numpy as np
import torch
from batched import BatchedTraining
from common import grid
from runner import Runner
from shape import Shape
from suite import METHODS, batches, everywhere


def check(runner: Runner) -> None:
    """The captured, compiled bfloat16 step against the plain float32 step."""
    jobs = [grid(runner, task, "train")[k] for task, k in (("digits", 4), ("count", 15), ("font", 21), ("clipart", 8))]
    for job in jobs:
        job.steps = 40
    found = {}
    for name, dtype, fast in (("plain", torch.float32, False), ("fast", torch.bfloat16, True)):
        runner.model.dtype = dtype
        trainer = BatchedTraining(
            runner.model,
            Shape(4, batch=runner.batch, steps=2000),
            runner.images,
            runner.targets,
            device=runner.device,
            graphed=fast and runner.graphed,
            compiled=False,
        )
        runner.trainers[Shape(4, batch=runner.batch, steps=2000)] = trainer
        runner.train(jobs, capacity=4, score=False)
        found[name] = trainer.losses[:40].cpu().numpy()
        runner.trainers.clear()
    gap = np.abs(found["plain"] - found["fast"]).max(0)
    print("check: losses", found["plain"][[0, 20, 39]].round(3).tolist(), found["fast"][[0, 20, 39]].round(3).tolist())
    runner.notes["check"] = {
        "largest_gap": gap.tolist(),
        "last": [found["plain"][-1].tolist(), found["fast"][-1].tolist()],
    }


def bench(runner: Runner) -> None:
    """Milliseconds of a step by number of models."""
    table = []
    for compiled, counts in ((False, (1, 2, 4, 8, 16, 32, 64)), (True, (1, 8, 32, 64))):
        for models in counts:
            begun = time.time()
            trainer = BatchedTraining(
                runner.model,
                Shape(models, batch=64, steps=100),
                runner.images,
                runner.targets,
                device=runner.device,
                graphed=True,
                compiled=compiled,
            )
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
            print(
                "bench",
                models,
                compiled,
                f"{ms:.2f} ms, {ms / models:.3f} a model, ready {ready:.0f} s, {memory:.1f} GiB",
                flush=True,
            )
            del trainer
            for block in runner.model.model.blocks:  # type: ignore[union-attr]
                block._compiled_call_impl = None
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    runner.notes["bench"] = table
    runner.notes["device"] = torch.cuda.get_device_name()
