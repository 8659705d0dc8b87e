"""Step and candidate of convolutional backbones on the fused paths, against these backbones with nothing to adapt."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle

import numpy as np
import timm
import torch
from cuda_candidates import IMAGES, random_split, run_all
from cuda_floors import CLASSES, ForwardFloor, StepFloor, milliseconds
from leaving import clean
from table import Row
from torch import nn

from glorasearch.evaluation import CandidateEvaluator
from glorasearch.fused import FusedStep, StepConfig
from glorasearch.search import InProcessExecutor
from glorasearch.space import EvaluationTask, SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
from glorasearch.training import SampledSubnet, SupernetTrainer
from glorasearch.training.optimizer import SupernetOptimizer, peak_rates
from glorasearch.training.plain_step import PlainStep

BATCH = 64
CASES = (("convnext_tiny", "convnext_glora"), ("resnet50", "resnet_glora"))
"""Backbones with random weights, and their spaces."""
STEP_TARGET, CANDIDATE_TARGET = 1.5, 1.05


def conv_rows() -> Iterator[Row]:
    """For each backbone one supernet step, its memory, and one candidate, each against its floor."""
    for name, space in CASES:
        for make in (step_rows, candidate_row):
            yield from make(name, space)
            clean("cuda")


def backbone(name: str) -> nn.Module:
    """A backbone at 224 px with random weights, on the CPU, the same at every call."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=CLASSES)
    return model.eval()


def step_rows(name: str, space: str) -> Iterator[Row]:
    """Biases of the adapted layers and head are the floor; the paths are drawn anew for every step."""
    images = torch.randn(BATCH, 3, 224, 224, device="cuda").to(torch.bfloat16)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (BATCH,), device="cuda")
    supernet = Supernet(backbone(name), SearchSpace.load(space)).train()
    elsewhere = torch.cuda.memory_allocated()
    started = time.perf_counter()
    floor = StepFloor(images, labels, backbone(name), supernet.adapted)
    first_floor = time.perf_counter() - started
    floor_bytes = floor.peak - elsewhere
    torch.cuda.empty_cache()
    elsewhere = torch.cuda.memory_allocated()
    rates = {"factor": 1e-3, "vector": 1e-3, "head": 1e-3}
    rng = np.random.default_rng(0)
    subnets = [sample(supernet.space, rng) for _ in range(100)]
    step = FusedStep(
        supernet.cuda(), StepConfig(), loss=partial(CLASSIFY.subnet_loss, smoothing=0.0), teacher=CLASSIFY.teacher_of
    )
    started = time.perf_counter()
    step.run(subnets[:1], images, labels, rates)
    torch.cuda.synchronize()
    compiled = time.perf_counter() - started
    ours: list[float] = []
    floors: list[float] = []
    for _ in range(3):  # interleaved: the clock of a GPU is not the same all the time
        floors.append(milliseconds(floor.graph.replay, 50))
        paths = iter(subnets)
        ours.append(milliseconds(lambda paths=paths: step.run([next(paths)], images, labels, rates), 50))
    yield Row(
        what=f"{name}: supernet step, batch {BATCH}, against biases and head only",
        measured=statistics.median(ours),
        reference=statistics.median(floors),
        unit="ms",
        target=STEP_TARGET,
        note=f"{space}; first step with compilation {compiled:.0f} s, the floor's {first_floor:.0f} s",
    )
    yield Row(
        what=f"{name}: the same step against one that is neither compiled nor captured",
        measured=statistics.median(ours),
        reference=plain_milliseconds(name, space, subnets, images, labels),
        unit="ms",
    )
    yield Row(
        what=f"{name}: peak memory of that step",
        measured=(step.peak_bytes - elsewhere) / 1e9,
        reference=floor_bytes / 1e9,
        unit="GB",
    )


def plain_milliseconds(
    name: str, space: str, subnets: Sequence[Subnet], images: torch.Tensor, labels: torch.Tensor
) -> float:
    """A step of `compile = "off"`, in bfloat16 where autocast has it, the median of three times ten."""
    supernet = Supernet(backbone(name).cuda(), SearchSpace.load(space)).train()
    config = SupernetTrainer.Config(steps=100, lr=1e-3)
    step = PlainStep(
        supernet,
        SupernetOptimizer(supernet, peak_rates(supernet.space, config), weight_decay=config.weight_decay),
        mixed=True,
        label_smoothing=0.0,
        clip_norm=1.0,
        seed=0,
        task=CLASSIFY,
    )
    paths, images = cycle(subnets), images.float()

    def one() -> torch.Tensor:
        return step.run(0, [SampledSubnet(next(paths))], images, labels, 1.0)

    milliseconds(one, 5)
    return statistics.median(milliseconds(one, 10) for _ in range(3))


def candidate_row(name: str, space: str) -> Iterator[Row]:
    """One candidate with all its images in one batch, through the executor."""
    split = random_split(backbone(name))
    floor = ForwardFloor(split.batch(slice(0, IMAGES), "cuda")[0], backbone(name))
    supernet = Supernet(backbone(name).cuda(), SearchSpace.load(space))
    rng = np.random.default_rng(0)
    nets = [sample(supernet.space, rng) for _ in range(60)]
    tasks = [EvaluationTask(net.to_json(), net.digest, "") for net in nets]
    started = time.perf_counter()
    evaluator = CandidateEvaluator(supernet, split, device="cuda", batch_size=IMAGES, compile="on")
    compiled = time.perf_counter() - started
    ours, floors = [], []
    with InProcessExecutor(evaluator) as executor:
        run_all(executor, tasks[:10])
        for _ in range(3):
            floors.append(milliseconds(floor.graph.replay, 60))
            started = time.perf_counter()
            run_all(executor, tasks)
            ours.append((time.perf_counter() - started) / len(tasks) * 1e3)
    yield Row(
        what=f"{name}: candidate, all {IMAGES} images, against the plain forward",
        measured=statistics.median(ours),
        reference=statistics.median(floors),
        unit="ms",
        target=CANDIDATE_TARGET,
        note=f"{space}; made in {compiled:.0f} s",
    )
