"""Step and candidate of a backbone on the fused paths, against that backbone with nothing to adapt."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import NamedTuple

import numpy as np
import torch
from arithmetic import step_flops, work_of
from cuda_candidates import IMAGES, random_split, run_all
from cuda_floors import CLASSES, ForwardFloor, StepFloor, backbone, milliseconds
from leaving import clean
from table import Row
from torch import nn

from glorasearch.evaluation import CandidateEvaluator
from glorasearch.fused import FusedStep, StepConfig
from glorasearch.search import InProcessExecutor
from glorasearch.space import EvaluationTask, SearchSpace, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
from glorasearch.training import SampledSubnet, SupernetTrainer
from glorasearch.training.optimizer import SupernetOptimizer, peak_rates
from glorasearch.training.plain_step import PlainStep

BATCH = 64
RATES = {"factor": 1e-3, "vector": 1e-3, "head": 1e-3}


class Family(NamedTuple):
    """A backbone of timm, with random weights, and how it is adapted."""

    backbone: str
    space: str
    convolves: bool
    step_target: float | None = None
    """At most so many times the floor."""
    candidate_target: float | None = None
    """In one batch."""
    memory_target: float | None = None
    """Of a step."""


FAMILIES: dict[str, Family] = {
    "vit_base": Family("vit_base_patch16_224", "glora_medium", False, 1.22, 1.03, 1.25),
    "vit_tiny": Family("vit_tiny_patch16_224", "glora_medium", False),
    "convnext": Family("convnext_tiny", "convnext_glora", True, 1.5, 1.05),
    "resnet": Family("resnet50", "resnet_glora", True, 1.5, 1.05),
}
"""Wide linear layers, narrow ones, depthwise and other convolutions: each is a way of its own through the kernels."""


class Measured:
    """One of them, and its rows."""

    def __init__(self, name: str, repeats: int) -> None:
        self.family, self.repeats = FAMILIES[name], repeats
        supernet = self._supernet()
        self._adapted = supernet.adapted
        rng = np.random.default_rng(0)
        self._subnets = [sample(supernet.space, rng) for _ in range(100)]
        images = torch.randn(BATCH, 3, 224, 224, device="cuda").to(torch.bfloat16)
        self._images = images.contiguous(memory_format=torch.channels_last) if self.family.convolves else images
        self._labels = torch.randint(0, CLASSES, (BATCH,), device="cuda")
        self._step_ms: float | None = None

    def rows(self, parts: Iterable[str]) -> Iterator[Row]:
        """Of the `PARTS` that are asked for."""
        for part in parts:
            yield from PARTS[part](self)
            clean("cuda")

    def step(self) -> Iterator[Row]:
        """Biases of the adapted layers and head are the floor; the paths are drawn anew for every step."""
        name, space, convolves, target, _, memory_target = self.family
        elsewhere = torch.cuda.memory_allocated() - self._images.nbytes
        started = time.perf_counter()
        floor = StepFloor(self._images, self._labels, self._backbone(), self._adapted, convolves=convolves)
        first_floor = time.perf_counter() - started
        floor_bytes = floor.peak - elsewhere
        torch.cuda.empty_cache()
        elsewhere = torch.cuda.memory_allocated()  # the batch as well: the step has a copy of its own
        loss = partial(CLASSIFY.subnet_loss, smoothing=0.0)
        supernet = self._supernet().cuda().train()
        step = FusedStep(supernet, StepConfig(), loss=loss, teacher=CLASSIFY.teacher_of)
        started = time.perf_counter()
        step.run(self._subnets[:1], self._images, self._labels, RATES)
        torch.cuda.synchronize()
        compiled = time.perf_counter() - started
        ours: list[float] = []
        floors: list[float] = []
        for _ in range(3):  # interleaved: the clock of a GPU is not the same all the time
            floors.append(milliseconds(floor.graph.replay, self.repeats))
            paths = cycle(self._subnets)  # the same in each round
            ours.append(
                milliseconds(
                    lambda paths=paths: step.run([next(paths)], self._images, self._labels, RATES), self.repeats
                )
            )
        self._step_ms = statistics.median(ours)
        flops = None if convolves else step_flops(supernet, self._subnets, BATCH)
        yield Row(
            what=f"{name}: supernet step, batch {BATCH}, against biases and head only",
            measured=self._step_ms,
            reference=statistics.median(floors),
            unit="ms",
            target=target,
            note=f"{space}; first step {compiled:.0f} s, compiled or loaded; the floor's {first_floor:.0f} s",
            flops=flops,
            reference_flops=None if convolves else BATCH * work_of(supernet.model).biases,
        )
        yield Row(
            what=f"{name}: peak memory of that step",
            measured=(step.peak_bytes - elsewhere) / 1e9,
            reference=floor_bytes / 1e9,
            unit="GB",
            target=memory_target,
        )

    def plain(self) -> Iterator[Row]:
        """A step of `compile = "off"`, in bfloat16 where autocast has it, the median of three times ten."""
        supernet = self._supernet().cuda().train()
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
        paths, images = cycle(self._subnets), self._images.float()

        def one() -> torch.Tensor:
            return step.run(0, [SampledSubnet(next(paths))], images, self._labels, 1.0)

        milliseconds(one, 5)
        plain, what = statistics.median(milliseconds(one, 10) for _ in range(3)), "neither compiled nor captured"
        if self._step_ms is None:
            yield Row(what=f"{self.family.backbone}: a step that is {what}", measured=plain, unit="ms")
        else:
            what = f"{self.family.backbone}: the same step against one that is {what}"
            yield Row(what=what, measured=self._step_ms, reference=plain, unit="ms")

    def candidate(self, sizes: Sequence[int] = (IMAGES,)) -> Iterator[Row]:
        """One candidate with all its images, in chunks of each of these sizes, through the executor."""
        name, space, convolves, _, target, _ = self.family
        split = random_split(self._backbone())
        images = split.batch(slice(0, IMAGES), "cuda")[0]
        floor = ForwardFloor(images, self._backbone(), convolves=convolves)
        nets = self._subnets[:60]
        tasks = [EvaluationTask(net.to_json(), net.digest, "") for net in nets]
        supernet = self._supernet().cuda()
        flops = None if convolves else IMAGES * work_of(supernet.model).forward
        for size in sizes:
            started = time.perf_counter()
            evaluator = CandidateEvaluator(supernet, split, device="cuda", batch_size=size, compile="on")
            compiled = time.perf_counter() - started
            ours, floors = [], []
            with InProcessExecutor(evaluator) as executor:
                run_all(executor, tasks[:10])
                for _ in range(3):
                    floors.append(milliseconds(floor.graph.replay, self.repeats))
                    started = time.perf_counter()
                    run_all(executor, tasks)
                    ours.append((time.perf_counter() - started) / len(tasks) * 1e3)
            yield Row(
                what=f"{name}: candidate, all {IMAGES} images, against the plain forward",
                measured=statistics.median(ours),
                reference=statistics.median(floors),
                unit="ms",
                target=target if size == IMAGES else None,
                note=f"{space}; in chunks of {size}; made in {compiled:.0f} s",
                flops=flops,
                reference_flops=flops,
            )

    def _backbone(self) -> nn.Module:
        return backbone(name=self.family.backbone)

    def _supernet(self) -> Supernet:
        return Supernet(self._backbone(), SearchSpace.load(self.family.space))


PARTS: dict[str, Callable[[Measured], Iterator[Row]]] = {
    "step": Measured.step,
    "plain": Measured.plain,
    "candidate": Measured.candidate,
}
