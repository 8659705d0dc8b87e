"""Which kind of step a training takes, and how it is made."""

from __future__ import annotations

import torch

from glorasearch.supernet import Supernet
from glorasearch.training.config import TrainingConfig
from glorasearch.training.optimizer import SupernetOptimizer
from glorasearch.training.paths import PathStrategy
from glorasearch.training.plain_step import PlainStep, Step
from glorasearch.training.rates import peak_rates


def choose_step(supernet: Supernet, strategy: PathStrategy, config: TrainingConfig, device: torch.device) -> Step:
    """The fast step on a GPU, unless it is turned off; the plain step elsewhere."""
    cuda = device.type == "cuda"
    mixed = config.precision == "bfloat16" or (config.precision == "auto" and cuda)
    peaks = peak_rates(
        supernet.space,
        lr=config.lr,
        vector_lr=config.vector_lr,
        spectrum_lr=config.spectrum_lr,
        head_lr=config.head_lr,
    )
    optimizer = SupernetOptimizer(supernet, peaks, weight_decay=config.weight_decay)
    plain = PlainStep(
        supernet, optimizer, mixed=mixed, label_smoothing=config.label_smoothing, clip_norm=config.clip_norm,
        seed=config.seed,
    )  # fmt: skip
    if config.compile == "off" or not cuda:
        return plain
    from glorasearch.fused import StepConfig
    from glorasearch.training.fast_step import FastStep

    fused = StepConfig(
        batch_size=config.batch_size // config.ranks,
        paths=tuple(path.distilled for path in strategy.paths(0)),
        clip_norm=config.clip_norm,
        weight_decay=config.weight_decay,
        dtype=torch.bfloat16 if mixed else torch.float32,
    )
    return FastStep(
        supernet,
        plain,
        peaks,
        fused,
        label_smoothing=config.label_smoothing,
        seed=config.seed,
        strict=config.compile == "on",
    )
