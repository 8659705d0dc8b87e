"""Two GPUs of one host against one of them, through Ray: trials a second of a search, images a second of a training.

    python benchmarks/bench_two_gpus.py [--device cuda] [--size base|tiny] [--json PATH] [--seconds 230]
                                        [--per-gpu 2] [--trials 800] [--steps 200] [--parts search,train]

ViT-B/16 at 224 px with random weights, `glora_medium`, bfloat16, compiled and captured. The search evaluates the same
trials on both (200 of scikit-learn's digits each, no early stopping, generations of `--population`), by `--per-gpu`
workers on each card, once every worker has evaluated some, and says whether both found the same winner. The training is
a run's own stage by Ray Train: 64 images a rank, one rank on one card and two on two, over NCCL; its images a second
are the median of what it recorded in its second half. Rows are written as they come, and none is begun that would end
after `--seconds`, as far as the one before tells.

Without a GPU, `--device cpu --size tiny --trials 40 --steps 8 --seconds 600` shows that it works: one worker or process
against two, over gloo, on a model of two small blocks. What it measures then means nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from table import Row, finish

from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, load_search_data
from glorasearch.db import RunStore, TrialStorage, sqlite_url
from glorasearch.evaluation import EvaluatorSpec
from glorasearch.runs import Run
from glorasearch.runs.config import RunConfig
from glorasearch.runs.evaluation import EVALUATOR
from glorasearch.runs.resources import ResourceConfig
from glorasearch.runs.workspace import Workspace
from glorasearch.search import SearchConfig, SearchDriver, SearchOutcome
from glorasearch.space import EvaluationTask, SearchSpace, sample
from glorasearch.supernet import Supernet
from glorasearch.weights import WeightStore, frozen_digest
from workers import RayExecutor

PARTS = ("search", "train")
MOST_TRIALS, MOST_IMAGES = 1.9, 1.8
"""How many times as much two cards are to do."""
CLASSES = 10
WARM = 4
"""Candidates of each worker before anything is timed, on average: the first one compiles."""


class Size(NamedTuple):
    """What differs between the real thing and its small sister."""

    model: dict[str, Any]
    images: int
    batch: int


SIZES = {
    "base": Size({}, 200, 64),
    "tiny": Size({"img_size": 28, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 2}, 40, 8),
}


def backbone_of(size: Size) -> BackboneConfig:
    """A ViT-B/16, or what is left of it."""
    return BackboneConfig(name="vit_base_patch16_224", pretrained=False, args=size.model)


class Search:
    """The same search by any number of workers."""

    def __init__(self, folder: Path, size: Size, options: argparse.Namespace) -> None:
        self._folder, self._options = folder, options
        config = backbone_of(size)
        supernet = Supernet(build_backbone(config, CLASSES), SearchSpace.load("glora_medium"))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in (supernet.adapter_parameters() | supernet.head_parameters()).values():
                parameter.normal_(std=0.02, generator=generator)
        data = DataConfig(source="digits", train=400, search=size.images, test=100)
        split = load_search_data(data, InputSpec.from_backbone(supernet.model)).search
        store = WeightStore(str(folder / "weights"))
        self._weights = store.put(supernet.adapter_state(), {"backbone_digest": frozen_digest(supernet)})
        self._space = supernet.space
        self._spec = EvaluatorSpec(
            backbone=config, classes=CLASSES, data=data, space=SearchSpace.load("glora_medium"), store=store.url,
            weights=self._weights, split=split.digest, device=options.device, threads=1, shared=True,
        )  # fmt: skip

    def run(self, cards: int) -> tuple[float, SearchOutcome]:
        """Trials a second by all workers of so many cards, and what was found."""
        count, cuda = self._options.per_gpu * cards, self._options.device == "cuda"
        workers = count if cuda else cards
        share = 1 / self._options.per_gpu if cuda else 0.0
        with RayExecutor(EVALUATOR, self._spec.to_json(), workers=workers, gpus_per_worker=share) as executor:
            self._warm_up(executor, workers)
            config = SearchConfig(
                trials=self._options.trials,
                population=self._options.population,
                parents=10,
                seed=1,
                early_stopping=False,
            )
            storage = TrialStorage(sqlite_url(self._folder / f"search-{cards}.db"))
            driver = SearchDriver(self._space, storage, executor, self._weights, "study", config)
            began = time.perf_counter()
            outcome = driver.run()
            seconds = time.perf_counter() - began
        return self._options.trials / seconds, outcome

    def _warm_up(self, executor: RayExecutor, workers: int) -> None:
        """Evaluate until every worker has some."""
        rng = np.random.default_rng(2)
        while len(executor.staff) < workers or any(not one.ready or not one.tasks for one in executor.staff):
            for _ in range(WARM * workers):
                subnet = sample(self._space, rng)
                executor.submit(EvaluationTask(subnet.to_json(), subnet.digest, self._weights))
            for _ in range(WARM * workers):
                if error := executor.next_result().error:
                    sys.exit(f"a candidate cannot be evaluated: {error}")


def search_row(folder: Path, size: Size, options: argparse.Namespace) -> Row:
    """Trials a second of two cards against one."""
    search = Search(folder, size, options)
    (one, alone), (two, both) = search.run(1), search.run(2)
    same = (alone.best.number, alone.subnet) == (both.best.number, both.subnet)
    winner = "the same winner" if same else f"NOT the same winner: trial {both.best.number}, not {alone.best.number}"
    where = f"{options.per_gpu} workers a GPU" if options.device == "cuda" else "one worker against two on the CPU"
    return Row(
        what="search, two GPUs against one", measured=two, reference=one, unit="trials/s", least=MOST_TRIALS,
        note=f"{options.trials} trials of {size.images} images, {where}; {winner}",
        more={"same_winner": same},
    )  # fmt: skip


def train_rate(folder: Path, size: Size, options: argparse.Namespace, ranks: int) -> float:
    """Images a second of a training with a rank on each of so many cards."""
    run_file = folder / f"train-{ranks}.toml"
    model = ", ".join(f"{key} = {value}" for key, value in size.model.items())
    run_file.write_text(
        f"""
name = "ranks-{ranks}"
device = "{options.device}"
[backbone]
name = "vit_base_patch16_224"
pretrained = false
args = {{{model}}}
[data]
source = "digits"
train = 1200
search = 100
test = 100
[space]
name = "glora_medium"
[train]
steps = {options.steps}
lr = 1e-3
batch_size = {size.batch * ranks}
ranks = {ranks}
record_every = {max(1, options.steps // 20)}
probe_every = 0
"""
    )
    gpus = 1.0 if options.device == "cuda" else 0.0
    resources = ResourceConfig(executor="ray", train_workers=ranks, train_gpus=gpus)
    workspace = Workspace.open(folder / f"workspace-{ranks}")
    Run(RunConfig.load(run_file), workspace, resources=resources).execute("train")
    rates = [
        row.value
        for row in RunStore(sqlite_url(folder / f"workspace-{ranks}" / "glorasearch.db")).metrics(f"ranks-{ranks}")
        if row.name == "images_per_second" and row.step > options.steps / 2
    ]
    return statistics.median(rates)


def train_row(folder: Path, size: Size, options: argparse.Namespace) -> Row:
    """Images a second of two ranks against one."""
    one, two = (train_rate(folder, size, options, ranks) for ranks in (1, 2))
    return Row(
        what="training, two ranks on two GPUs against one", measured=two, reference=one, unit="images/s",
        least=MOST_IMAGES, note=f"{size.batch} images a rank, {options.steps} steps",
    )  # fmt: skip


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Those parts for which there is time."""
    makers: dict[str, Callable[..., Row]] = {"search": search_row, "train": train_row}
    began, longest = time.monotonic(), 0.0
    for part in options.parts:
        start = time.monotonic()
        if start - began + longest > options.seconds:
            print(f"{part} is left out: the part before took {longest:.0f} s, of --seconds {options.seconds:g}")
            continue
        with tempfile.TemporaryDirectory(prefix="glorasearch-two-gpus-", ignore_cleanup_errors=True) as folder:
            yield makers[part](Path(folder), SIZES[options.size], options)
        longest = max(longest, time.monotonic() - start)


def parts_of(text: str) -> list[str]:
    """Some of `PARTS`."""
    parts = text.split(",")
    if unknown := set(parts) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
    return parts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=tuple(SIZES), default="base")
    parser.add_argument("--parts", type=parts_of, default=list(PARTS), help="search,train")
    parser.add_argument("--seconds", type=float, default=230.0, help="no part is begun that would end later")
    number = partial(parser.add_argument, type=int)
    number("--per-gpu", default=2, help="workers on a card")
    number("--trials", default=800)
    number("--population", default=48, help="of a generation; a multiple of all workers, so that none waits at its end")
    number("--steps", default=200, help="of each training")
    options = parser.parse_args()
    if options.device == "cuda" and torch.cuda.device_count() < 2:
        parser.error(f"there are {torch.cuda.device_count()} CUDA devices, not two; --help says how to try it on a CPU")
    finish(rows(options), options)


if __name__ == "__main__":
    main()
