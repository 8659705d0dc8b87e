"""What candidates are scored on in the benchmarks of a GPU, and how they are kept coming."""

from __future__ import annotations

import torch
from cuda_floors import CLASSES
from torch import nn

from glorasearch.data import SearchSplit
from glorasearch.data.input_spec import InputSpec
from glorasearch.data.pixels import ResidentPixels
from glorasearch.search import InProcessExecutor
from glorasearch.space import EvaluationResult, EvaluationTask

IMAGES = 200


def random_split(model: nn.Module) -> SearchSplit:
    """200 images of noise, as a model takes them."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (IMAGES, 3, 224, 224), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (IMAGES,), generator=generator)
    spec = InputSpec.from_backbone(model)
    return SearchSplit(ResidentPixels(pixels), labels, spec, [bytes([i]) for i in range(IMAGES)], CLASSES)


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
