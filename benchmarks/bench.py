"""All speeds that have a target, in one table.

    python benchmarks/bench.py [--device cpu|cuda] [--only step,candidate,...] [--json PATH] [--threads 1]

Each part is a module beside this file with a function `rows`, and can be run alone. What is compared runs in the same
process on the same machine. `--device cpu` measures what a CPU is asked for; `--device cuda` what a GPU is, and the
start of a run on it without compilation. The table goes to standard output, and with the machine, its versions and the
commit to `bench-results/bench-<device>.json`. Targets that are missed are shown, and are no failure of this program; a
part that breaks is one.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from peaks import current_peak
from table import Row, print_table, write_json

Part = Callable[[], list[Row]]


def part(module: str, **arguments: object) -> Part:
    """The rows of a module beside this one; it is imported when its turn comes."""
    return lambda: list(importlib.import_module(module).rows(**arguments))


def cuda(name: str) -> Part:
    """One part of `bench_cuda`; what the whole job makes is kept for the parts after it, until this process ends."""
    return lambda: list(importlib.import_module("bench_cuda").rows([name], Path(_FOLDER.name)))


_FOLDER = tempfile.TemporaryDirectory(prefix="glorasearch-bench-")

PARTS: dict[str, dict[str, Part]] = {
    "cpu": {
        "start": part("bench_start", device="cpu"),
        "driver": part("bench_driver"),
        "storage": part("bench_storage"),
        "utilisation": part("bench_utilisation"),
        "scale": part("bench_scale"),
        "candidate": part("bench_candidate_cpu"),
        "step": part("bench_step_cpu"),
        "serving": part("bench_serving", device="cpu"),
    },
    "cuda": {
        "start": part("bench_start", device="cuda"),
        "peak": cuda("peak"),
        "step": cuda("step"),
        "everything": cuda("everything"),
        "candidate": cuda("candidate"),
        "job": cuda("job"),
        "search": cuda("search"),
        "bf16": cuda("bf16"),
        "float8": cuda("float8"),
        "race": cuda("race"),
        "families": part("bench_families"),
        "serving": part("bench_serving", device="cuda"),
    },
}

LONG = ("utilisation", "scale", "float8", "race", "families")
"""Parts that take more than five minutes each, and are measured only if they are named."""


def run(device: str, only: list[str], path: Path, **more: object) -> tuple[list[Row], dict[str, str]]:
    """The rows of the parts that are asked for, and what went wrong by part; written to the file after every part."""
    found: list[Row] = []
    broken: dict[str, str] = {}
    for name in only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        start = time.perf_counter()
        try:
            found += PARTS[device][name]()
        except Exception as error:  # the parts after a broken one are still worth measuring
            broken[name] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        write_json(path, found, **more, broken=broken)
    return found, broken


def main() -> int:
    """Measure, print, write; 1 if a part broke."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=sorted(PARTS), default="cpu")
    parser.add_argument("--only", help="parts, with commas between them (default: all of the device but the long ones)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="default: bench-results/bench-<device>.json")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in what is measured in this process")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [name for name in PARTS[options.device] if name not in LONG]
    unknown = sorted(set(wanted) - PARTS[options.device].keys())
    if unknown:
        parser.error(f"no part {', '.join(unknown)} for {options.device}; there are {', '.join(PARTS[options.device])}")
    torch.set_num_threads(options.threads)
    path = options.json or Path("bench-results") / f"bench-{options.device}.json"
    found, broken = run(options.device, wanted, path, threads=options.threads)
    print_table(found, current_peak())
    for name, error in broken.items():
        print(f"{name} broke: {error}")
    print(f"written to {path}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
