"""How to train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from glorasearch.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How to train; the defaults of a run file are in `glorasearch.runs.config`."""

    steps: int
    """Optimiser steps."""
    batch_size: int = 64
    """Images per step, those of all ranks together."""
    ranks: int = 1
    """Parts of a step, each with paths of its own on its own share of the step's images; their gradients are averaged.
    How many processes carry them out is the affair of the trainer's `world`, and changes nothing."""
    lr: float = 1e-3
    """Peak learning rate of the low-rank factors."""
    vector_lr: float = 1e-3
    """Peak learning rate of vectors and constants."""
    spectrum_lr: float | None = None
    """Peak learning rate of the coefficients of spectra; by the sizes of their layers if not given (`rates`)."""
    head_lr: float = 1e-3
    """Peak learning rate of the classifier head."""
    weight_decay: float = 1e-4
    """AdamW's decoupled weight decay, on everything that is trained."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    clip_norm: float = 1.0
    """Largest total norm of the gradients; 0 for no clipping."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` is bfloat16 autocast on GPUs and float32 on CPUs."""
    compile: Literal["auto", "on", "off"] = "auto"
    """`auto` compiles and captures the step on GPUs and falls back to the plain step where a model cannot be; `on`
    fails there; `off` is the plain step. On CPUs the step is always the plain one."""
    seed: int = 0
    """Decides paths, order of images and drop path."""
    record_every: int = 25
    """Steps between records."""
    probe_every: int = 250
    """Steps between measurements of the probes; 0 for none."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        least = {"steps": 0, "batch_size": 1, "ranks": 1, "warmup_steps": 0, "clip_norm": 0}
        least |= {"record_every": 1, "probe_every": 0, "checkpoint_every": 1}
        for name, limit in least.items():
            if not getattr(self, name) >= limit:
                raise ConfigError(f"train.{name} is {getattr(self, name)!r}; it must be at least {limit}")
        if self.batch_size % self.ranks:
            raise ConfigError(
                f"train.batch_size is {self.batch_size}, which {self.ranks} ranks (train.ranks) cannot share equally; "
                f"take a multiple of {self.ranks}"
            )
