"""What a suite runs: everything that decides its results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite_parts.tasks import Sizes

RUN_FILE = Path(__file__).resolve().parents[1] / "suite.toml"
"""What all runs of the product have in common."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the results; plain values, so that it travels to worker processes."""

    backbone: str
    """timm's name of the model."""
    device: str
    """`cpu` or `cuda`."""
    budget: str
    """The most trainable parameters: their number, or `lora<rank>`, those of LoRA everywhere."""
    small_budget: str = "lora4"
    """Of the arm `lora4_budget`."""
    sizes: Sizes = field(default_factory=Sizes)
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """Of the yardstick."""
    steps: int = 2_000
    """Of the yardstick's trainings."""
    methods: tuple[str, ...] | None = None
    """Fixed methods of the yardstick; all shipped ones if not given."""
    tau_subnets: int = 24
    tau_steps: int = 400
    tau_trainings: int = 4
    """Times that each of these subnets is trained alone."""
    overrides: tuple[str, ...] = ()
    """Of every run of the product, as `--set` takes them."""
    backbone_digest: str
    """Of its files."""
    task_digests: dict[str, str]
    """Task → digest of its images and labels."""

    @property
    def keys(self) -> dict[str, str]:
        """Task → SHA-256 of what its units depend on: settings, run file, backbone and the task's images.

        Where the backbone lies is not among them, nor the device: finished units may be read on another machine.
        """
        common = dataclasses.asdict(self) | {"run": run_file(), "task_digests": None, "backbone": None, "device": None}
        return {
            task: hashlib.sha256(json.dumps(common | {"task_digests": digest}, sort_keys=True).encode()).hexdigest()
            for task, digest in self.task_digests.items()
        }


QUICK: dict[str, Any] = {
    "sizes": Sizes(train=64, search=32, test=64),
    "rates": (1e-3, 1e-2),
    "steps": 4,
    "methods": ("linear_probe", "lora", "ssf"),
    "tau_subnets": 4,
    "tau_steps": 3,
    "tau_trainings": 2,
    "overrides": (
        "train.steps=6",
        "train.pilot_steps=3",
        "train.pilot_rates=[1e-3, 1e-2]",
        "train.batch_size=16",
        "search.trials=8",
        "search.population=4",
        "search.parents=2",
        "race.methods=['lora', 'ssf']",
        "race.rates=[1e-3, 1e-2]",
        "race.finalists=1",
        "race.named=1",
        "race.steps=3",
        "race.folds=2",
        "race.rungs=[1]",
        "race.keep=2",
        "refit.steps=4",
        "refit.teachers=2",
        "refit.orders=1",
        "refit.teacher_steps=3",
        "refit.mixed=20",
    ),
}
"""Settings that prove the path and measure nothing."""


def run_file() -> dict[str, Any]:
    """The content of `scripts/suite.toml`."""
    return tomllib.loads(RUN_FILE.read_text("utf-8"))


def backbone_digest(name: str) -> str:
    """SHA-256 of a local timm directory's files; another name stands for itself."""
    if not name.startswith("local-dir:"):
        return name
    content = hashlib.sha256()
    for path in sorted(Path(name.removeprefix("local-dir:")).iterdir()):
        if path.is_file():
            content.update(path.name.encode() + path.read_bytes())
    return content.hexdigest()
