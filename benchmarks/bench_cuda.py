"""The figures of a GPU: supernet step and candidate against their floors, a whole search, and a whole job.

    python benchmarks/bench_cuda.py [--json PATH] [--parts step,everything,candidate,job,search,bf16]

ViT-B/16 at 224 px, search space `glora_medium`, bfloat16; with random weights where what they are does not change what
anything costs. The whole job adapts one that was pretrained for a minute (`cuda_backbone.py`) to 800 + 200 of
scikit-learn's digits; the search with and without early stopping, and the comparison of bfloat16 with float32, use the
supernet that the job has trained.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cuda_backbone import pretrained
from cuda_floors import BACKBONE, CLASSES, ForwardFloor, StepFloor, backbone, milliseconds
from safetensors.torch import save_file
from table import Row, finish, json_option

from glorasearch.data import SearchSplit
from glorasearch.db import TrialStorage
from glorasearch.evaluation import CandidateEvaluator
from glorasearch.fused import FusedStep, StepConfig
from glorasearch.runs import Run, RunConfig, Workspace
from glorasearch.runs.results import TrainResult
from glorasearch.runs.session import Session
from glorasearch.search import InProcessExecutor, SearchConfig, SearchDriver
from glorasearch.space import EvaluationResult, EvaluationTask, Score, SearchSpace, Subnet, sample, sample_within_budget
from glorasearch.supernet import Supernet
from glorasearch.training.step import subnet_loss, teacher_of

BATCH, IMAGES, TRIALS = 64, 200, 1_050
RATES = {"factor": 1e-3, "vector": 1e-3, "spectrum": 1e-1, "head": 1e-3}
RUN = """
name = "bench"
device = "cuda"
[backbone]
name = "vit_base_patch16_224"
checkpoint = "weights.safetensors"
[data]
source = "digits"
train = 800
search = 200
[space]
name = "glora_medium"
[train]
steps = {steps}
[search]
trials = {trials}
[refit]
steps = 1000
"""


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
        supernet, StepConfig(batch_size=BATCH), loss=partial(subnet_loss, smoothing=0.0), teacher=teacher_of
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
    for name in ("glora_medium", "everything"):
        supernet = Supernet(backbone().cuda(), SearchSpace.load(name)).train()
        step = FusedStep(
            supernet, StepConfig(batch_size=BATCH), loss=partial(subnet_loss, smoothing=0.0), teacher=teacher_of
        )
        rng = np.random.default_rng(0)
        subnets = [sample(supernet.space, rng) for _ in range(50)]
        step.run(subnets[:1], images, labels, RATES)
        steps[name] = step, subnets
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(3):
        for name, (step, subnets) in steps.items():
            paths = iter(subnets * 2)
            taken = milliseconds(lambda paths=paths, step=step: step.run([next(paths)], images, labels, RATES), 50)
            found[name].append(taken)
    medium, everything = (statistics.median(found[name]) for name in ("glora_medium", "everything"))
    what = "step of the space `everything` against one of `glora_medium`"
    return [Row(what=what, measured=everything, reference=medium, unit="ms", target=2.0)]


def random_split() -> SearchSplit:
    """200 images of noise."""
    from glorasearch.data.input_spec import InputSpec
    from glorasearch.data.pixels import ResidentPixels

    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (IMAGES, 3, 224, 224), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (IMAGES,), generator=generator)
    spec = InputSpec.from_backbone(backbone())
    return SearchSplit(ResidentPixels(pixels), labels, spec, [bytes([i]) for i in range(IMAGES)], CLASSES)


def candidate_rows() -> list[Row]:
    """One candidate with all its images, through the executor, against the plain forward of as many images."""
    split = random_split()
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
            )
        )
    return rows


def run_all(executor: InProcessExecutor, tasks: list[EvaluationTask]) -> list[EvaluationResult]:
    """Keep the executor busy with tasks, as the driver does."""
    results: list[EvaluationResult] = []
    waiting = iter(tasks)
    under_way = 0
    while len(results) < len(tasks):
        while under_way < executor.capacity and (task := next(waiting, None)) is not None:
            executor.submit(task)
            under_way += 1
        results.append(executor.next_result())
        under_way -= 1
    return results


def job_rows(folder: Path, steps: int = 6_000, trials: int = TRIALS) -> list[Row]:
    """The whole job in one process, from the start of the interpreter to the exported model."""
    save_file(pretrained(BACKBONE, steps=1_000).state_dict(), folder / "weights.safetensors")
    (folder / "run.toml").write_text(RUN.format(steps=steps, trials=trials), "utf-8")
    started = time.perf_counter()
    command = [sys.executable, "-m", "glorasearch", "run", str(folder / "run.toml"), "--workspace", str(folder / "w")]
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    report = json.loads((folder / "w" / "runs" / "bench" / "report.json").read_text("utf-8"))
    print(json.dumps(report, indent=1)[:6000])
    what = f"whole job: {steps:,} steps, {trials:,} candidates, refit, export, test"
    return [Row(what=what, measured=seconds, unit="s", target=240.0)]


def open_session(folder: Path) -> Session:
    """The run that `job_rows` has finished; a shorter one if it has not."""
    if not (folder / "run.toml").exists():
        job_rows(folder, steps=2_000, trials=50)
    return Run(RunConfig.load(folder / "run.toml"), Workspace.open(folder / "w")).session()


def search_rows(folder: Path) -> list[Row]:
    """A search of 1,050 candidates with and without early stopping: what it costs, and that it finds the same."""
    session = open_session(folder)
    supernet = session.load(session.supernet(), TrainResult)
    split = session.data.search
    floor = milliseconds(ForwardFloor(split.batch(slice(0, len(split)), "cuda")[0]).graph.replay, 60)
    found: dict[bool, dict[str, Any]] = {}
    for early_stopping in (False, True):
        found[early_stopping] = one_search(
            supernet, split, SearchConfig(trials=TRIALS, early_stopping=early_stopping), folder
        )
    plain, stopping = found[False], found[True]
    same = plain["params"] == stopping["params"] and plain["winner"] == stopping["winner"]
    note = f"same trials, parents and winner: {'yes' if same else 'NO'}; "
    note += f"{stopping['stopped_early']} of {TRIALS} stopped early, "
    note += f"{100 * stopping['share']:.0f} % of the images; without early stopping {plain['ms']:.1f} ms"
    return [
        Row(
            what="mean candidate of a search of 1,050, against the plain forward",
            measured=stopping["ms"],
            reference=floor,
            unit="ms",
            target=0.6,
            note=note,
        ),
        Row(what="the same search, wall time with sampling and storage", measured=stopping["wall"], unit="s"),
    ]


def one_search(supernet: Supernet, split: SearchSplit, config: SearchConfig, folder: Path) -> dict[str, Any]:
    """Trials, winner and costs of one search in a database of its own."""
    url = f"sqlite:///{folder / f'search-{config.early_stopping}.db'}"
    storage = TrialStorage(url)
    evaluator = CandidateEvaluator(supernet, split, device="cuda", hardest_first=True)
    warm = sample(supernet.space, np.random.default_rng(1))
    evaluator.evaluate(warm)
    with InProcessExecutor(evaluator) as executor:
        driver = SearchDriver(supernet.space, storage, executor, "weights", "study", config)
        started = time.perf_counter()
        outcome = driver.run()
        wall = time.perf_counter() - started
    study = storage.get_study_id_from_name("study")
    return {
        "params": [trial.params for trial in storage.get_all_trials(study, deepcopy=False)],
        "winner": outcome.best.subnet_digest,
        "stopped_early": outcome.stopped_early,
        "share": outcome.images_share,
        "ms": outcome.evaluation_seconds / TRIALS * 1e3,
        "wall": wall,
    }


def bf16_rows(folder: Path) -> list[Row]:
    """The ranking of 200 candidates in bfloat16 against the plain float32 forward."""
    session = open_session(folder)
    supernet = session.load(session.supernet(), TrainResult)
    rng = np.random.default_rng(5)
    nets = [sample_within_budget(supernet.space, rng) for _ in range(200)]
    scores: dict[str, list[Score]] = {}
    for name, mode in (("bfloat16", "on"), ("float32", "off")):
        precision = "bfloat16" if mode == "on" else "float32"
        evaluator = CandidateEvaluator(supernet, session.data.search, device="cuda", compile=mode, precision=precision)
        scores[name] = [evaluator.evaluate(net) for net in nets]
    ranks = {name: sorted(range(200), key=lambda i: found[i].cross_entropy) for name, found in scores.items()}
    shared = len(set(ranks["bfloat16"][:10]) & set(ranks["float32"][:10]))
    winner = ranks["bfloat16"][0]
    difference = abs(scores["bfloat16"][winner].correct - scores["float32"][winner].correct)
    worst = max(
        abs(a.cross_entropy - b.cross_entropy) for a, b in zip(scores["bfloat16"], scores["float32"], strict=True)
    )
    spread = statistics.stdev(result.cross_entropy for result in scores["float32"])
    return [
        Row(
            what="top 10 of 200 candidates that bfloat16 and float32 do not share",
            measured=10 - shared,
            unit="",
            target=1,
            note=f"cross-entropy differs by at most {worst:.2e} nats, candidates by {spread:.2e}",
        ),
        Row(what="the winner's images that they score differently", measured=difference, unit="", target=1),
    ]


def rows(parts: list[str], folder: Path) -> list[Row]:
    """The rows of some parts, in the order of the issue's table."""
    made: list[Row] = []
    for part, make in (
        ("step", step_rows),
        ("everything", everything_rows),
        ("candidate", candidate_rows),
        ("job", lambda: job_rows(folder)),
        ("search", lambda: search_rows(folder)),
        ("bf16", lambda: bf16_rows(folder)),
    ):
        if part in parts:
            made += make()
            torch._dynamo.reset()
            torch.cuda.empty_cache()
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    json_option(parser)
    parser.add_argument("--parts", default="step,everything,candidate,job,search,bf16")
    parser.add_argument("--workspace", type=Path, help="keep the whole job here")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("needs a CUDA device")
    folder = options.workspace or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    finish(rows(options.parts.split(","), folder), options)


if __name__ == "__main__":
    main()
