"""The suite's tasks, the fixed methods, random subnets, and jobs: one training each, all that differs as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import timm
import torch
from layout import Layout
from safetensors.torch import load_file
from torch import Tensor, nn

TASKS = ("digits", "fashion", "clipart", "font", "count", "orientation")
RATES = (1e-3, 3e-3, 1e-2)
CHOICES = {
    "A": ["none", "constant", "vector", "lora:4", "lora:8", "wegeft:8", "wegeft:16"],
    "B": ["none", "constant", "vector", "lora:4", "lora:8", "lora:16"],
    "C": ["none", "vector"],
    "D": ["none", "vector"],
    "E": ["none", "vector"],
}
NORMS = {"A": ["none", "vector"], "E": ["none", "vector"]}
CLASSES = 12
BUDGET = 393_216
"""Parameters of LoRA r=16 on every layer."""
METHODS: dict[str, dict[str, str]] = {
    "bitfit": {"E": "vector", "norm.E": "vector"},
    "ssf": {"A": "vector", "E": "vector", "norm.A": "vector", "norm.E": "vector"},
    "lora4": {"B": "lora:4"},
    "lora8": {"B": "lora:8"},
    "lora16": {"B": "lora:16"},
    "wegeft16e": {"A": "wegeft:16", "E": "vector"},
    "repadapter8": {"A": "wegeft:8", "C": "vector"},
    "all": {"A": "lora:4", "B": "lora:8", "D": "vector", "E": "vector"},
}


def backbone(folder: Path, *, toy: bool = False) -> nn.Module:
    """The suite's ViT, from its timm directory; `toy` has the same widths and a hundredth of the arithmetic."""
    if toy:
        return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=16, depth=1, num_classes=0).eval()
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=4, depth=8, num_classes=0, pretrained=False
    )
    state = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise RuntimeError(f"missing {missing}, unexpected {unexpected}")
    return model.eval()


def make_layout(model: nn.Module) -> Layout:
    """The columns of all that is tried here."""
    return Layout(model, CHOICES, classes=CLASSES, head_in=192, norm_choices=NORMS)


def everywhere(layout: Layout, method: dict[str, str]) -> np.ndarray:
    """The code of a method: one choice a support tensor for all linear layers, `norm.A` and `norm.E` for all norms."""
    code = np.zeros(len(layout.genes), dtype=np.int64)
    for index, (layer, tensor) in enumerate(layout.genes):
        key = f"norm.{tensor}" if is_norm(layer) else tensor
        code[index] = layout.options(index).index(method.get(key, "none"))
    return code


def is_norm(layer: str) -> bool:
    """Whether a layer is a LayerNorm."""
    return "norm" in layer.rsplit(".", 1)[-1]


def random_by_gene(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Every gene drawn for itself, uniformly, within the budget."""
    while True:
        code = np.array([rng.integers(len(layout.options(i))) for i in range(len(layout.genes))])
        if int(layout.size(torch.tensor(code)[None])[0]) <= BUDGET:
            return code


def random_by_type(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """One choice a support tensor for each type of layer (qkv, proj, fc1, fc2, norms), in a range of blocks."""
    spans = ((0, 8), (0, 8), (2, 8), (4, 8), (0, 4))
    while True:
        code = np.zeros(len(layout.genes), dtype=np.int64)
        drawn: dict[tuple[str, str], tuple[int, tuple[int, int]]] = {}
        for index, (layer, tensor) in enumerate(layout.genes):
            kind = "norm" if is_norm(layer) else layer.rsplit(".", 1)[-1]
            if (kind, tensor) not in drawn:
                drawn[kind, tensor] = int(rng.integers(len(layout.options(index)))), spans[rng.integers(len(spans))]
            choice, (first, last) = drawn[kind, tensor]
            block = int(layer.split(".")[1]) if layer.startswith("blocks.") else 7
            code[index] = choice if first <= block < last else 0
        if 2_000 <= int(layout.size(torch.tensor(code)[None])[0]) <= BUDGET:
            return code


@dataclass(slots=True)
class Job:
    """One training."""

    task: str
    seed: int
    code: np.ndarray
    lr: float | tuple[float, float, float]
    data: str = "train"
    """`train` (800), `all` (train + search), or `fold:k/n`: all but the k-th of n parts, on which it is scored."""
    steps: int = 2000
    order: int = 0
    """Seed of start and order of images."""
    decay: float = 1e-4
    smoothing: float = 0.0
    drop_path: float = 0.0
    ema: float = 0.99
    label: dict[str, object] = field(default_factory=dict)
    keep_test: bool = False
    """Keep the test logits, not only their scores."""
    start: Tensor | None = None
    pool: tuple[int, int] | None = None
    """Learn from this range of extra images and targets instead."""


class Tasks:
    """All images in one pool; the splits as indices into it."""

    def __init__(self, path: Path, tasks: Sequence[str] = TASKS, *, test: int = 2200) -> None:
        """`test`: the most test images of a task."""
        self.test = test
        data = np.load(path)
        self.images = np.concatenate([data[f"{task}_x"] for task in tasks]).transpose(0, 3, 1, 2)
        self.labels = np.concatenate([data[f"{task}_y"] for task in tasks])
        self.classes = {task: int(data[f"{task}_y"].max()) + 1 for task in tasks}
        self.sizes = {task: len(data[f"{task}_y"]) for task in tasks}
        starts = np.cumsum([0, *self.sizes.values()])
        self.offset = dict(zip(tasks, starts, strict=False))

    def split(self, task: str, seed: int) -> np.ndarray:
        """The images of a task in the order of a seed's split."""
        order = np.random.RandomState(1000 + seed).permutation(self.sizes[task])
        return np.asarray(self.offset[task] + order)

    def sets(self, job: Job) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices that a job trains on, is scored on (200), is tested on."""
        order = self.split(job.task, job.seed)
        test = order[1000 : 1000 + self.test]
        if job.data == "train":
            return order[:800], order[800:1000], test
        if job.data == "all":
            return order[:1000], order[800:1000], test
        fold, folds = map(int, job.data.removeprefix("fold:").split("/"))
        held = np.zeros(1000, dtype=bool)
        held[fold::folds] = True
        return order[:1000][~held], order[:1000][held], test


def batches(indices: np.ndarray, steps: int, batch: int, seed: int) -> np.ndarray:
    """`(steps, batch)`: an endless stream of shuffled epochs."""
    rng = np.random.default_rng([seed, 77])
    need = steps * batch
    parts = [rng.permutation(indices) for _ in range(-(-need // len(indices)))]
    return np.concatenate(parts)[:need].reshape(steps, batch)


BETAS = np.exp(np.linspace(np.log(0.02), np.log(20.0), 61))


def tempered(logits: np.ndarray, labels: np.ndarray, betas: Iterable[float] = BETAS) -> tuple[float, float]:
    """Mean cross-entropy at the best temperature of `logits (n, C)`, and that beta."""
    z = logits.astype(np.float64)
    best = (np.inf, 1.0)
    for beta in betas:
        scaled = z * beta
        top = scaled.max(1, keepdims=True)
        logs = np.log(np.exp(scaled - top).sum(1)) + top[:, 0]
        best = min(best, (float((logs - scaled[np.arange(len(z)), labels]).mean()), float(beta)))
    return best
