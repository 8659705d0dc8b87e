"""One worker of an experiment: takes units from a common queue until the deadline.

    python main.py PHASE FOLDER OUT --worker 0 --deadline 300

FOLDER holds the suite's `tasks.npz` and `backbone/`. Workers of one machine share the folder OUT/queue.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

STARTED = time.time()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("phase")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--deadline", type=float, default=300)
    parser.add_argument("--began", type=float, default=STARTED)
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    import phases
    from runner import Runner

    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.recompile_limit = 64
    cuda = given.device == "cuda"
    runner = Runner(
        given.folder, device=given.device, dtype=torch.bfloat16 if cuda else torch.float32, graphed=cuda,
        compiled=cuda, extra=phases.EXTRA.get(given.phase, 0), drop_path=given.phase in phases.DROPS,
    )  # fmt: skip
    queue = Path(os.environ.get("QUEUE", "/tmp/queue"))
    queue.mkdir(parents=True, exist_ok=True)
    done: list[tuple[str, float]] = []
    left = lambda: given.began + given.deadline - time.time()  # noqa: E731
    slow = 1.0
    for name, seconds, action in phases.units(given.phase, runner, given.worker):
        if left() < seconds * slow:
            print(given.worker, "no time for", name, f"{left():.0f}", flush=True)
            continue
        try:
            os.close(os.open(queue / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        begun = time.time()
        try:
            action(runner)
        except Exception as error:  # noqa: BLE001
            import traceback

            traceback.print_exc()
            print(given.worker, name, "FAILED", repr(error)[:300], flush=True)
            if not done:
                sys.exit(3)
            continue
        done.append((name, time.time() - begun))
        print(given.worker, name, f"{done[-1][1]:.1f} s, left {left():.0f}", flush=True)
        if seconds and len(done) > 1:
            slow = max(0.3, min(3.0, done[-1][1] / seconds * 1.05))
        (given.out / f"rows{given.worker}.json").write_text(
            json.dumps({"rows": runner.rows, "notes": phases.NOTES, "units": done})
        )
    names = list(runner.logits)
    size = sum(value.nbytes for value in runner.logits.values())
    parts = max(1, -(-size // 14_000_000))
    print(given.worker, "logits", size, "in", parts, flush=True)
    for part in range(min(parts, 3)):
        chosen = {name: runner.logits[name] for name in names[part::parts]}
        np.savez_compressed(given.out / f"logits{given.worker}_{part}.npz", **chosen)  # type: ignore[arg-type]
    print(given.worker, "ends after", f"{time.time() - given.began:.0f}", flush=True)


if __name__ == "__main__":
    main()
