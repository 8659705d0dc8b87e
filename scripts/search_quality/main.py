"""One worker of an experiment: takes units from a common queue until the deadline.

    python main.py PHASE FOLDER OUT --worker 0 --deadline 300

PHASE is `grid`, `crossfit` or `recipe` (which reads FOLDER/plan.json, see `recipe.py`); FOLDER holds the suite's
`tasks.npz` and `backbone/`. Workers of one machine, one a GPU, share the queue. `--device cpu --toy` runs a few steps
of each.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from phases import EXTRA, units
from runner import Runner


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("phase", choices=list(EXTRA))
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument(
        "--deadline", type=float, default=600, help="seconds; no unit starts that would not end by then"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--queue", type=Path, help="folder that the workers share; fresh for each run")
    parser.add_argument("--only", nargs="*", help="these units only")
    given = parser.parse_args()
    began = time.time()
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.recompile_limit = 64
    fast = given.device == "cuda"
    runner = Runner(
        given.folder,
        device=given.device,
        dtype=torch.bfloat16 if fast else torch.float32,
        graphed=fast,
        compiled=fast,
        extra=EXTRA[given.phase],
        drop_path=given.phase != "grid",
        seed=given.seed,
        toy=given.toy,
    )
    queue = given.queue or Path(tempfile.mkdtemp())
    queue.mkdir(parents=True, exist_ok=True)
    given.out.mkdir(parents=True, exist_ok=True)
    done: list[tuple[str, float]] = []
    for name, seconds, action in units(given.phase, runner):
        left = began + given.deadline - time.time()
        if left < seconds or (given.only and name not in given.only):
            continue
        try:
            os.close(os.open(queue / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        begun = time.time()
        action(runner)
        done.append((name, time.time() - begun))
        print(f"worker {given.worker}: {name} took {done[-1][1]:.1f} s, {left - done[-1][1]:.0f} s left", flush=True)
        kept = {"rows": runner.rows, "notes": runner.notes, "units": done}
        (given.out / f"rows{given.worker}.json").write_text(json.dumps(kept))
    np.savez_compressed(given.out / f"logits{given.worker}.npz", **runner.logits)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
