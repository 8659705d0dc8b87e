"""What several finalists of a race take side by side in one step, against one alone, and in turns.

    python benchmarks/bench_finalists.py [--device cuda] [--json PATH]
                                         [--stacks vit_base_patch16_224:4:3.2 quickstart:16:4] [--steps 60]

A stack is `BACKBONE:MODELS:LARGEST`: a timm name (random weights), `quickstart` or `local-dir:PATH`; how many
finalists, random subnets of `glora_medium` within its budget at three rates; and how many times the step of the first
one alone theirs may take. A second row has the step of all in turns (one fused step, which each one's weights enter)
against side by side, a third that of the first one as a refit takes it, by the supernet's fused path. 64 of
scikit-learn's digits a step for each. All are compiled and captured on a GPU and timed by turns, and the losses of the
first steps are compared: a finalist that learns something else one way than another ends the program. Rows are written
as they come; `--device cpu` tries it without a GPU.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from arithmetic import dense_elements, work_of
from leaving import clean
from table import Row, finish
from torch import Tensor

from glorasearch import SearchSpace
from glorasearch.adapters import adaptable_layers
from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.config import Compile
from glorasearch.data import DataConfig, InputSpec, load_splits
from glorasearch.space import sample_within_budget
from glorasearch.stacked import Member, StackedTrainer
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, SupernetTrainer, TrainingConfig

COMPARED, LARGEST = 3, 0.05
"""Steps whose losses are compared, and by how much those of the first member may differ, nats."""
RATES = 1e-3, 3e-3, 1e-2


class Finalists:
    """Members on one backbone."""

    def __init__(self, name: str, models: int, device: str) -> None:
        shipped = name == "quickstart" or name.startswith("local-dir:")
        backbone = build_backbone(BackboneConfig(name=name, pretrained=shipped), 10, seed=3)
        spec = InputSpec.from_backbone(backbone)
        self._data = load_splits(DataConfig(source="digits", train=400, search=100), spec).train
        space, rng = SearchSpace.load("glora_medium"), np.random.default_rng(0)
        bound = space.bind(adaptable_layers(backbone))
        self._subnets = [sample_within_budget(bound, rng) for _ in range(models)]
        self.device, self._space = device, space
        self._backbone = backbone.to(device)
        self._members = []
        for number, subnet in enumerate(self._subnets):
            given = TrainingConfig(steps=10_000, lr=RATES[number % 3], seed=number)
            images = torch.arange(len(self._data))
            config = space.recipe.apply(given)
            self._members.append(Member(space=bound, subnet=subnet, config=config, images=images))

    def trainer(self, count: int, *, in_turns: bool = False) -> StackedTrainer:
        """Of the first few, side by side or in turns."""
        mode: Compile = "on" if self.device == "cuda" else "off"
        return StackedTrainer(
            self._backbone, self._members[:count], self._data, device=self.device, compile=mode, side_by_side=True,
            in_turns=in_turns,
        )  # fmt: skip

    def refit(self) -> SupernetTrainer:
        """Of the first one, by the path of a supernet."""
        supernet, member = Supernet(copy.deepcopy(self._backbone), self._space), self._members[0]
        mode: Compile = "on" if self.device == "cuda" else "off"
        strategy = Fixed(member.subnet)
        trainer = SupernetTrainer(supernet, self._data, strategy, member.config, device=self.device, compile=mode)
        supernet.train()
        return trainer

    def flops(self, count: int) -> float | None:
        """Useful arithmetic of a step of the first few; None where nobody counts it."""
        try:
            work = work_of(self._backbone)
        except ValueError:
            return None
        supernet = Supernet(self._backbone, self._space)
        dense = count * dense_elements(supernet, self._subnets[:count])
        return self._members[0].config.batch_size * (count * work.biases + 2 * work.tokens * dense)


def steps(trainer: StackedTrainer, device: str, numbers: range) -> Tensor:
    """Losses `(steps, M)`, on the device: nothing waits for them."""
    losses = []
    for number in numbers:
        images, targets = trainer._batches.batch(number, torch.device(device))
        losses.append(trainer._engine.step(number, images, targets, trainer._scales(number))[:, 0])
    return torch.stack(losses)


def rows(stacks: list[tuple[str, int, float]], device: str, count: int) -> Iterator[Row]:
    """For each stack its step both ways, and that of a refit; the first steps of each."""
    for name, models, target in stacks:
        bench = Finalists(name, models, device)
        yield from stack_rows(bench, name, models, target, count)
        clean(device)
        yield refit_row(bench, name, count)
        clean(device)


def refit_row(bench: Finalists, name: str, count: int) -> Row:
    """The first one's step as a refit takes it, against its step as a stack of one."""
    stack, alone = partial(steps, bench.trainer(1), bench.device), bench.refit()

    def refitted(numbers: range) -> list[Tensor]:
        return [alone._train_step(number) for number in numbers]

    for way in (stack, refitted):
        way(range(COMPARED))
    refit, one = alternating(bench.device, refitted, stack, count=count)
    what = f"step of the first finalist as a refit takes it, against a stack of one, {name}"
    return Row(
        what=what, measured=refit, reference=one, unit="ms", flops=bench.flops(1), reference_flops=bench.flops(1),
        more={"models": 1, "backbone": name},
    )  # fmt: skip


def alternating(device: str, *ways: Callable[[range], object], count: int) -> list[float]:
    """Milliseconds of a step each way, the median of three turns; each has taken the first `COMPARED` steps."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    each: list[list[float]] = [[] for _ in ways]
    done = COMPARED
    for _ in range(3):
        for found, take in zip(each, ways, strict=True):
            wait()
            began = time.perf_counter()
            take(range(done, done + count))
            wait()
            found.append((time.perf_counter() - began) / count * 1e3)
        done += count
    return [statistics.median(found) for found in each]


class Way:
    """A stack that has taken its first steps."""

    def __init__(self, bench: Finalists, count: int, *, in_turns: bool = False) -> None:
        device = bench.device
        wait = torch.cuda.synchronize if device == "cuda" else lambda: None
        before = torch.cuda.memory_allocated() if device == "cuda" else 0
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        trainer = bench.trainer(count, in_turns=in_turns)
        self.step = partial(steps, trainer, device)
        self.first = self.step(range(COMPARED)).float().cpu()
        """Losses, `(COMPARED, M)`."""
        wait()
        self.started = time.perf_counter() - began
        self.memory = (torch.cuda.max_memory_allocated() - before) / 1e9 if device == "cuda" else 0.0
        wanted = "in turns" if in_turns else "side by side"
        if trainer.kind != wanted:
            sys.exit(f"finalists that should be trained {wanted} are trained {trainer.kind}")

    def note(self, other: Way, device: str) -> str:
        """Memory, seconds to the first results, and losses, each against another way's."""
        told = f"{self.memory:.2f} GB against {other.memory:.2f}; " if device == "cuda" else ""
        return told + (
            f"first {COMPARED} steps {self.started:.0f} s against {other.started:.0f}; losses differ by at most "
            f"{self.apart(other):.1g}"
        )

    def apart(self, other: Way) -> float:
        """How far the losses of the first finalists are apart, those that both have."""
        both = min(self.first.shape[1], other.first.shape[1])
        return float((self.first[:, :both] - other.first[:, :both]).abs().max())


def stack_rows(bench: Finalists, name: str, models: int, target: float, count: int) -> Iterator[Row]:
    """Several side by side against one, and in turns against side by side, all timed in the same minutes."""
    device = bench.device
    one, many, turns = Way(bench, 1), Way(bench, models), Way(bench, models, in_turns=True)
    for way, other in ((many, one), (turns, many)):
        if not way.apart(other) < LARGEST:
            sys.exit(f"{name}: of {models} one learns something else: losses differ by {way.apart(other):.4f} nats")
    alone, beside, in_turns = alternating(device, one.step, many.step, turns.step, count=count)
    more = {"models": models, "backbone": name}
    yield Row(
        what=f"step of {models} finalists against one, {name}", measured=beside, reference=alone, unit="ms",
        target=target, note=many.note(one, device), flops=bench.flops(models), reference_flops=bench.flops(1),
        more=more,
    )  # fmt: skip
    yield Row(
        what=f"step of {models} finalists in turns against side by side, {name}", measured=in_turns, reference=beside,
        unit="ms", note=turns.note(many, device), flops=bench.flops(models), reference_flops=bench.flops(models),
        more=more,
    )  # fmt: skip


def stack_of(text: str) -> tuple[str, int, float]:
    """`BACKBONE:MODELS:LARGEST`."""
    try:
        name, models, target = text.rsplit(":", 2)
        found = name, int(models), float(target)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not BACKBONE:MODELS:LARGEST") from None
    if found[1] < 2:
        raise argparse.ArgumentTypeError(f"{text!r} has fewer than two models")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the rows to this file")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    default = [stack_of("vit_base_patch16_224:4:3.2"), stack_of("quickstart:16:4")]
    parser.add_argument("--stacks", type=stack_of, nargs="+", default=default, metavar="STACK")
    parser.add_argument("--steps", type=int, default=60, help="timed in one go, three times")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu --stacks quickstart:2:3 --steps 2 shows that it works")
    finish(rows(options.stacks, options.device, options.steps), options)


if __name__ == "__main__":
    main()
