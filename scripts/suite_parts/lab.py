"""What the units of one worker process share: data, backbone, and trainings side by side with their scores."""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from glorasearch import DataConfig, SearchSpace, Splits
from glorasearch.adapters import adaptable_layers
from glorasearch.backbone import BackboneConfig, build_backbone, build_skeleton
from glorasearch.data import InputSpec, SearchSplit, TestSplit, TrainSplit, load_splits
from glorasearch.runs.progress import Advance
from glorasearch.runs.session import versions
from glorasearch.space import BoundSpace
from glorasearch.stacked import Member, StackedTrainer, stack_size
from suite_parts.settings import Settings
from suite_parts.spent import spending
from suite_parts.tasks import Tasks
from suite_parts.units import Unit
from suite_parts.work import Say

Logits = npt.NDArray[np.float32]
TEST_BATCH = 256


@dataclass(frozen=True)
class Folders:
    """Where a suite keeps what it is working on."""

    out: Path

    @property
    def units(self) -> Path:
        """Finished units."""
        return self.out / "units"

    def workspace(self, unit: Unit) -> Path:
        """Runs of one task and seed, which share what they can."""
        return self.out / "runs" / f"{unit.task}-{unit.seed}"

    def partial(self, unit: Unit) -> Path:
        """Stacks of a unit that is under way."""
        return self.out / "partial" / unit.name


@dataclass(frozen=True, eq=False)
class Scored:
    """Models that were trained side by side, and their logits."""

    search: Logits
    """`(M, n, classes)` on the search split; empty if they were not asked for."""
    test: Logits
    """Likewise on the test split."""
    seconds: float
    """Of the trainings."""
    other_seconds: float
    """Of all else but the test split: building, scores on the search split."""


class Lab:
    """Data and backbone by unit, and trainings of several models side by side."""

    def __init__(self, settings: Settings, folders: Folders, tasks: Tasks, threads: int) -> None:
        """`threads` of torch on the CPU."""
        self.settings, self.folders, self.tasks, self.threads = settings, folders, tasks, threads
        self.device = settings.device
        self.backbone_config = BackboneConfig(name=settings.backbone)
        self._splits: tuple[tuple[str, int, bool], Splits] | None = None
        self._say: Say = lambda text: None
        torch.set_num_threads(threads)

    def beside(self, out: Path) -> Lab:
        """One that keeps what it makes elsewhere, and so finds nothing of before; says what this one says."""
        other = Lab(self.settings, Folders(out), self.tasks, self.threads)
        other._say = self._say
        return other

    @contextmanager
    def telling(self, say: Say) -> Iterator[None]:
        """Say meanwhile how far what is under way is."""
        before, self._say = self._say, say
        try:
            yield
        finally:
            self._say = before

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """Progress of a run, as `glorasearch.runs.progress` has it."""

        def advance(done: int, note: str = "") -> None:
            self._say(f"{title} {done:,}/{total:,}")

        yield advance

    def say(self, text: str) -> None:
        """Lines of a run are not shown."""

    def data_config(self, unit: Unit) -> DataConfig:
        """The images of a unit, as a run file names them."""
        source = self.tasks.write(unit.task, unit.seed, self.settings.sizes, self.folders.out.resolve() / "data")
        return DataConfig(source=source, allow_overlap=True)

    def splits(self, unit: Unit, crops: bool = False) -> Splits:
        """Its three splits; with larger views for augmentations to crop from, if asked for."""
        key = unit.task, unit.seed, crops
        if self._splits is None or self._splits[0] != key:
            spec = InputSpec.from_backbone(build_skeleton(self.backbone_config, classes=2))
            self._splits = key, load_splits(self.data_config(unit), spec, crops=crops)
        return self._splits[1]

    def backbone(self, unit: Unit, drop_path: float = 0.0) -> nn.Module:
        """The frozen model, with a head for the task's classes."""
        classes = self.splits(unit).classes
        return build_backbone(self.backbone_config, classes, drop_path=drop_path, seed=unit.seed)

    def bind(self, space: SearchSpace) -> BoundSpace:
        """A space on the backbone's layers."""
        return space.bind(adaptable_layers(build_skeleton(self.backbone_config, classes=2)))

    def limit(self, budget: str) -> int:
        """The parameters that a budget allows."""
        if not budget.startswith("lora"):
            return int(budget)
        lora = {"name": budget, "choices": {"B": [f"lora:{budget.removeprefix('lora')}"]}}
        space = self.bind(SearchSpace.from_dict(lora))
        return space.parameters(space.largest())

    def train(
        self, unit: Unit, part: str, members: Sequence[Member], split: TrainSplit, *, search: bool, test: bool
    ) -> Scored:
        """Train members side by side, as many as fit, and score them; nothing finished is done again."""
        drop_path = max(member.config.drop_path for member in members)
        backbone = self.backbone(unit, drop_path).to(self.device)
        size, steps = stack_size(backbone, members, self.device), max(member.config.steps for member in members)
        found: list[dict[str, Any]] = []
        for first in range(0, len(members), size):
            place = self.folders.partial(unit) / f"{part}-{first}"
            if not place.with_suffix(".npz").exists():
                stack = members[first : first + size]
                with self.task(f"{part}, {len(found) * size + len(stack)} of {len(members)} models, step", steps) as on:
                    result = self._stack(unit, place, backbone, stack, split, search, test, on)
                _write(place.with_suffix(".npz"), result)
                place.with_suffix(".checkpoint").unlink(missing_ok=True)
            with np.load(place.with_suffix(".npz")) as content:
                found.append(dict(content))
        return Scored(
            search=np.concatenate([one["search"] for one in found]),
            test=np.concatenate([one["test"] for one in found]),
            seconds=float(sum(one["seconds"] for one in found)),
            other_seconds=float(sum(one["other_seconds"] for one in found)),
        )

    def _stack(
        self,
        unit: Unit,
        place: Path,
        backbone: nn.Module,
        members: Sequence[Member],
        split: TrainSplit,
        search: bool,
        test: bool,
        advance: Advance,
    ) -> dict[str, Any]:
        place.parent.mkdir(parents=True, exist_ok=True)
        with spending(place.with_suffix(".spent.json"), lambda: {"seconds": time.perf_counter()}) as spent:
            earlier, began, splits = spent()["seconds"], time.perf_counter(), self.splits(unit)
            trainer = StackedTrainer(
                backbone,
                members,
                split,
                device=self.device,
                checkpoint=place.with_suffix(".checkpoint"),
                on_step=lambda step: advance(step, ""),
            )
            trained_from = time.perf_counter()
            result = trainer.run()
            trained_to = time.perf_counter()
            none = np.zeros((len(members), 0, splits.classes), np.float32)
            on_search = self._logits(trainer, splits.search) if search else none
            other = trained_from - began + time.perf_counter() - trained_to
        if earlier >= 1:  # interrupted attempts: what their checkpoint does not have, and steps that were done again
            other += max(0.0, earlier + trained_to - trained_from - result.seconds)
        return {
            "search": on_search,
            "test": self._logits(trainer, splits.test) if test else none,
            "seconds": result.seconds,
            "other_seconds": other,
        }

    @staticmethod
    def _logits(trainer: StackedTrainer, split: SearchSplit | TestSplit) -> Logits:
        found: Logits = trainer.logits(split, torch.arange(len(split))).numpy()
        return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)  # of models that diverged

    def forget(self, unit: Unit) -> None:
        """Remove the stacks of a unit that is finished."""
        shutil.rmtree(self.folders.partial(unit), ignore_errors=True)

    def free(self) -> None:
        """Give the device's memory back, for the next unit to plan with."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def timed(self, unit: Unit) -> Iterator[dict[str, Any]]:
        """What every unit records: wall-clock and compilation seconds of all its attempts, device, versions."""
        facts: dict[str, Any] = {}

        def clocks() -> dict[str, float]:
            return {"wall_seconds": time.perf_counter(), "compile_seconds": compile_seconds()}

        with spending(self.folders.partial(unit) / "spent.json", clocks) as spent:
            yield facts
            facts |= spent()
        facts["device"] = device_name(self.device, self.threads)
        facts["versions"] = versions()


def correct_images(logits: Logits, labels: torch.Tensor) -> str:
    """Of logits `(n, classes)`: 1 for every image that is classified correctly, else 0."""
    return "".join("1" if right else "0" for right in logits.argmax(-1) == labels.numpy())


def device_name(device: str, threads: int) -> str:
    """Of a GPU, or that of the processor's kind and the threads."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {threads} of {os.cpu_count()} cores"


def compile_seconds() -> float:
    """Seconds that this process has spent in torch.compile so far; captures of graphs are not among them."""
    try:
        from torch._dynamo.utils import calculate_time_spent
    except ImportError:
        return 0.0
    spent: Mapping[str, float] = calculate_time_spent()
    return float(spent.get("total_wall_time", 0.0))


def _write(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **content)
    partial.replace(path)
