"""The figures of a GPU: supernet step and candidate against their floors, a whole search, and a whole run.

    python benchmarks/bench_cuda.py [--json PATH] [--parts peak,step,...]

ViT-B/16 at 224 px, search space `glora_medium`, bfloat16; with random weights where what they are does not change what
anything costs. The whole run adapts one that was pretrained for a minute (`cuda_backbone.py`) to 800 + 200 of
scikit-learn's digits; the search with and without early stopping, and the comparison of bfloat16 with float32, use the
supernet that the job has trained. Beside each figure stands what share of the card's dense bfloat16 peak its useful
arithmetic (`arithmetic.py`) reaches, and in a row of its own what a large product of matrices reaches. Other
backbones have `bench_families.py`. Rows are written as they come.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from arithmetic import step_flops
from cuda_candidates import IMAGES
from cuda_families import BATCH, RATES, Measured
from cuda_floors import CLASSES, backbone, milliseconds
from cuda_run import bf16_rows, job_rows, search_rows
from leaving import clean
from peaks import TERA, current_peak, product_rate
from table import Row, finish, json_option

from glorasearch.fused import FusedStep, StepConfig
from glorasearch.space import SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY

PARTS = ("peak", "step", "everything", "candidate", "job", "search", "bf16", "float8", "race")


def peak_rows() -> list[Row]:
    """What a large product of bfloat16 matrices reaches, against what the data sheet promises."""
    peak = current_peak()
    note = "sizes of 8192" + ("" if peak else "; the card's peak is unknown, so no shares of it are given")
    reference = None if peak is None else peak / TERA
    return [
        Row(what="product of matrices", measured=product_rate() / TERA, reference=reference, unit="TFLOP/s", note=note)
    ]


def step_rows() -> Iterator[Row]:
    """One supernet step, and its memory, against the floor; the paths are drawn anew for every step."""
    yield from Measured("vit_base", 100).step()


def everything_rows() -> list[Row]:
    """A step of the space with every choice against one of `glora_medium`."""
    images = torch.randn(BATCH, 3, 224, 224, device="cuda").to(torch.bfloat16)
    labels = torch.randint(0, CLASSES, (BATCH,), device="cuda")
    steps: dict[str, tuple[FusedStep, list[Subnet]]] = {}
    flops: dict[str, float] = {}
    for name in ("glora_medium", "everything"):
        supernet = Supernet(backbone().cuda(), SearchSpace.load(name)).train()
        step = FusedStep(
            supernet, StepConfig(), loss=partial(CLASSIFY.subnet_loss, smoothing=0.0), teacher=CLASSIFY.teacher_of
        )
        rng = np.random.default_rng(0)
        subnets = [sample(supernet.space, rng) for _ in range(50)]
        step.run(subnets[:1], images, labels, RATES)
        steps[name] = step, subnets
        flops[name] = step_flops(supernet, subnets, BATCH)
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(3):
        for name, (step, subnets) in steps.items():
            paths = iter(subnets * 2)
            taken = milliseconds(lambda paths=paths, step=step: step.run([next(paths)], images, labels, RATES), 50)
            found[name].append(taken)
    medium, everything = (statistics.median(found[name]) for name in ("glora_medium", "everything"))
    what = "step of the space `everything` against one of `glora_medium`"
    own = {"flops": flops["everything"], "reference_flops": flops["glora_medium"]}
    return [Row(what=what, measured=everything, reference=medium, unit="ms", target=2.0, **own)]


def candidate_rows() -> Iterator[Row]:
    """One candidate in one batch and in chunks of 25, through the executor, against the plain forward."""
    yield from Measured("vit_base", 60).candidate((IMAGES, 25))


def rows(parts: list[str], folder: Path) -> Iterator[Row]:
    """The rows of some parts, in the order of the issue's table, as they come."""
    for part, make in (
        ("peak", peak_rows),
        ("step", step_rows),
        ("everything", everything_rows),
        ("candidate", candidate_rows),
        ("job", lambda: job_rows(folder)),
        ("search", lambda: search_rows(folder)),
        ("bf16", lambda: bf16_rows(folder)),
        ("float8", lambda: bf16_rows(folder, "float8")),
        ("race", lambda: job_rows(folder / "race", race=True)),
    ):
        if part in parts:
            yield from make()
            clean("cuda")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    json_option(parser)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--workspace", type=Path, help="keep the whole job here")
    options = parser.parse_args()
    unknown = sorted(set(options.parts.split(",")) - set(PARTS))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if not torch.cuda.is_available():
        parser.error("needs a CUDA device")
    folder = options.workspace or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    finish(rows(options.parts.split(","), folder), options)


if __name__ == "__main__":
    main()
