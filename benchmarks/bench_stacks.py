"""What a step of a stack takes on a GPU, uncaptured, captured and compiled, and how many operations it has.

    python benchmarks/bench_stacks.py [--json PATH] [--backbone NAME] [--models 24 8 1]

Five fixed methods and three random subnets of `lean` at three rates, side by side, on 800 of scikit-learn's digits,
with drop path 0.1 for 8 models. Losses of the first steps are compared with those of the uncaptured step: a step that
is fast and wrong ends the program. Without a GPU only operations are counted, of the same stack; views are left out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from operations import Operations
from table import Row, finish, json_option
from torch import Tensor

from glorasearch import SearchSpace
from glorasearch.adapters import adaptable_layers
from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.data import DataConfig, InputSpec, load_splits
from glorasearch.errors import SearchSpaceError
from glorasearch.space import BoundSpace, Subnet, sample_within_budget, shipped_names
from glorasearch.stacked import Member, StackedTrainer, side_by_side
from glorasearch.training import TrainingConfig

STEPS, COMPARED, LARGEST = 60, 5, 0.05
"""Steps that are timed, those whose losses are compared, and by how much these may differ, nats."""


def entrants(layers: list[Any]) -> list[tuple[BoundSpace, Subnet, SearchSpace]]:
    """The first five fixed methods, and three random subnets."""
    found = []
    for name in shipped_names():
        space = SearchSpace.load(name)
        try:
            bound = space.bind(layers)
        except SearchSpaceError:
            continue
        if bound.size() == 1:
            found.append((bound, bound.largest(), space))
    lean, rng = SearchSpace.load("lean"), np.random.default_rng(0)
    bound = lean.bind(layers)
    return found[:5] + [(bound, sample_within_budget(bound, rng), lean) for _ in range(3)]


class Bench:
    """Trainers of stacks of so many models."""

    def __init__(self, backbone: str, models: int, device: str) -> None:
        self.models, self.device = models, device
        drop_path = 0.1 if models == 8 else 0.0
        config = BackboneConfig(name=backbone)
        model = build_backbone(config, 10, seed=3, drop_path=drop_path)
        self.data = load_splits(DataConfig(source="digits", train=800, search=200), InputSpec.from_backbone(model))
        self.backbone = model.to(device)
        found = entrants(list(adaptable_layers(self.backbone)))
        self.members = []
        for number in range(models):
            bound, subnet, space = found[number * len(found) // models]
            rate = (1e-3, 3e-3, 1e-2)[number % 3]
            given = TrainingConfig(steps=400, lr=rate, seed=number, drop_path=drop_path)
            recipe = space.recipe.apply(given).replace(drop_path=drop_path)
            self.members.append(Member(space=bound, subnet=subnet, config=recipe, images=torch.arange(800)))

    def trainer(self, compile: Any) -> StackedTrainer:
        return StackedTrainer(
            self.backbone, self.members, self.data.train, device=self.device, compile=compile, side_by_side=True
        )

    def steps(self, trainer: StackedTrainer, numbers: range) -> Tensor:
        """Losses `(steps, M)`."""
        losses = []
        for number in numbers:
            images, targets = trainer._batches.batch(number, torch.device(self.device))
            losses.append(trainer._engine.step(number, images, targets, trainer._scales(number))[:, 0])
        return torch.stack(losses).float()


@contextmanager
def kind(name: str) -> Iterator[Any]:
    """The mode of a trainer; `captured` is `on` without its compilation."""
    if name == "captured":
        with patch.object(side_by_side, "compile_blocks", lambda model: 0):
            yield "on"
    else:
        yield "off" if name == "uncaptured" else "on"


def measure(bench: Bench) -> Iterator[Row]:
    """Milliseconds of a step by kind, and seconds of the first one, in which compilation and capture happen."""
    expected, reference = None, None
    for name in ("uncaptured", "captured", "compiled"):
        with kind(name) as mode:
            trainer = bench.trainer(mode)
            began = time.perf_counter()
            first = bench.steps(trainer, range(COMPARED))
            torch.cuda.synchronize()
            start = time.perf_counter() - began
            began = time.perf_counter()
            bench.steps(trainer, range(COMPARED, STEPS))
            torch.cuda.synchronize()
        each = (time.perf_counter() - began) / (STEPS - COMPARED) * 1e3
        expected = first if expected is None else expected
        difference = float((first - expected).abs().max())
        if not difference < LARGEST:
            sys.exit(
                f"{bench.models} models, {name}: losses differ by {difference:.4f} nats from the uncaptured step's"
            )
        note = f"first {COMPARED} steps {start:.1f} s, losses differ by at most {difference:.4f}"
        yield Row(
            what=f"step of {bench.models} models, {name}", measured=each, unit="ms", reference=reference, note=note
        )
        reference = each if reference is None else reference


def count(bench: Bench) -> Iterator[Row]:
    """Operations of one step on the CPU, as a GPU would have them."""
    trainer = bench.trainer("off")
    for module in trainer._engine._model.modules():  # type: ignore[attr-defined]
        if hasattr(module, "factored"):
            module.factored = False
    bench.steps(trainer, range(1))
    with Operations() as counted:
        bench.steps(trainer, range(1, 2))
    yield Row(what=f"operations of a step of {bench.models} models", measured=counted.count, unit="operations")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backbone", default="quickstart", help="a timm name, or local-dir:PATH")
    parser.add_argument("--models", type=int, nargs="+", default=[24, 8, 1])
    json_option(parser)
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    rows = []
    for models in options.models:
        bench = Bench(options.backbone, models, "cuda" if gpu else "cpu")
        rows += measure(bench) if gpu else count(bench)
    finish(rows, options)


if __name__ == "__main__":
    main()
