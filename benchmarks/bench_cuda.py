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
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from arithmetic import dense_elements, work_of
from cuda_candidates import IMAGES, random_split, run_all
from cuda_floors import CLASSES, ForwardFloor, StepFloor, backbone, milliseconds
from cuda_run import bf16_rows, job_rows, search_rows
from leaving import clean
from peaks import TERA, current_peak, product_rate
from table import Row, finish, json_option

from glorasearch.evaluation import CandidateEvaluator
from glorasearch.fused import FusedStep, StepConfig
from glorasearch.search import InProcessExecutor
from glorasearch.space import EvaluationTask, SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY

BATCH = 64
PARTS = ("peak", "step", "everything", "candidate", "job", "search", "bf16", "float8", "race")
RATES = {"factor": 1e-3, "vector": 1e-3, "head": 1e-3}


def peak_rows() -> list[Row]:
    """What a large product of bfloat16 matrices reaches, against what the data sheet promises."""
    peak = current_peak()
    note = "sizes of 8192" + ("" if peak else "; the card's peak is unknown, so no shares of it are given")
    reference = None if peak is None else peak / TERA
    return [
        Row(what="product of matrices", measured=product_rate() / TERA, reference=reference, unit="TFLOP/s", note=note)
    ]


def step_flops(supernet: Supernet, subnets: list[Subnet]) -> float:
    """Useful arithmetic of a step, the mean over subnets: that of the floor, and the dense gradients they need."""
    work = work_of(supernet.model)
    return BATCH * (work.biases + 2 * work.tokens * dense_elements(supernet, subnets))


def step_rows() -> list[Row]:
    """One supernet step, and its memory, against the floor; the paths are drawn anew for every step."""
    images = torch.randn(BATCH, 3, 224, 224, device="cuda").to(torch.bfloat16)
    labels = torch.randint(0, CLASSES, (BATCH,), device="cuda")
    elsewhere = torch.cuda.memory_allocated() - images.nbytes
    floor = StepFloor(images, labels)
    floor_bytes = floor.peak - elsewhere
    torch.cuda.empty_cache()
    elsewhere = torch.cuda.memory_allocated()  # the batch as well: the step has a copy of its own
    supernet = Supernet(backbone().cuda(), SearchSpace.load("glora_medium")).train()
    rng = np.random.default_rng(0)
    subnets = [sample(supernet.space, rng) for _ in range(100)]
    step = FusedStep(
        supernet, StepConfig(), loss=partial(CLASSIFY.subnet_loss, smoothing=0.0), teacher=CLASSIFY.teacher_of
    )
    started = time.perf_counter()
    step.run(subnets[:1], images, labels, RATES)
    torch.cuda.synchronize()
    compiled = time.perf_counter() - started
    ours: list[float] = []
    floors: list[float] = []
    for _ in range(3):  # interleaved: the clock of a GPU is not the same all the time
        floors.append(milliseconds(floor.graph.replay, 100))
        paths = iter(subnets * 2)
        ours.append(milliseconds(lambda paths=paths: step.run([next(paths)], images, labels, RATES), 100))
    return [
        Row(
            what="supernet step, batch 64, against biases and head only",
            measured=statistics.median(ours),
            reference=statistics.median(floors),
            unit="ms",
            target=1.35,
            note=f"first step with compilation {compiled:.0f} s",
            flops=step_flops(supernet, subnets),
            reference_flops=BATCH * work_of(supernet.model).biases,
        ),
        Row(
            what="peak memory of that step",
            measured=(step.peak_bytes - elsewhere) / 1e9,
            reference=floor_bytes / 1e9,
            unit="GB",
            target=1.25,
        ),
    ]


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
        flops[name] = step_flops(supernet, subnets)
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


def candidate_rows() -> list[Row]:
    """One candidate with all its images, through the executor, against the plain forward of as many images."""
    split = random_split(backbone())
    floor = ForwardFloor(split.batch(slice(0, IMAGES), "cuda")[0])
    supernet = Supernet(backbone().cuda(), SearchSpace.load("glora_medium"))
    rng = np.random.default_rng(0)
    tasks = [EvaluationTask(net.to_json(), net.digest, "") for net in (sample(supernet.space, rng) for _ in range(60))]
    rows = []
    for size, target in ((IMAGES, 1.03), (25, None)):
        evaluator = CandidateEvaluator(supernet, split, device="cuda", batch_size=size)
        with InProcessExecutor(evaluator) as executor:
            run_all(executor, tasks[:10])
            ours, floors = [], []
            for _ in range(3):
                floors.append(milliseconds(floor.graph.replay, 60))
                started = time.perf_counter()
                run_all(executor, tasks)
                ours.append((time.perf_counter() - started) / len(tasks) * 1e3)
        rows.append(
            Row(
                what="candidate, all 200 images, against the plain forward",
                measured=statistics.median(ours),
                reference=statistics.median(floors),
                unit="ms",
                target=target,
                note=f"in chunks of {size}",
                flops=IMAGES * work_of(supernet.model).forward,
                reference_flops=IMAGES * work_of(supernet.model).forward,
            )
        )
    return rows


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
