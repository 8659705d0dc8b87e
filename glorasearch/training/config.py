"""How to train: what a trainer takes, and the `[train]` section of a run file, whose rate may have to be found."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from glorasearch.config import MOST_BATCH, MOST_STEPS, Compile, Config, ListOf, Precision, Role, Seed
from glorasearch.training.augment.config import AugmentRecipe

WARMUP_SHARE: Final = 10
"""A training spends at most one step in this many on its warm-up."""
PILOT_SHARE: Final = 10
"""A pilot takes the supernet's steps divided by this, unless `pilot_steps` is given."""
PILOT_FLOOR: Final = 100
"""But at least this many steps."""
PILOT_CHECKS: Final = 3
"""How often a pilot is judged: after equal shares of its steps, last at its end."""


class TrainingRecipe(Config):
    """Steps, batches, learning rates, and how often a training reports its progress."""

    section: ClassVar[str] = "train"
    steps: int = Field(default=6_000, ge=0, le=MOST_STEPS)
    """Optimiser steps."""
    strategy: Annotated[Literal["uniform", "sandwich"], Role.METHOD] = "uniform"
    """One random subnet a step, or the sandwich rule. The sandwich trains the largest subnet, from which the smallest
    and `middle` random ones are distilled (Yu et al. 2020)."""
    middle: Annotated[int, Role.METHOD] = Field(default=1, ge=0, le=1_000)
    """Random subnets of a sandwich step."""
    batch_size: int = Field(default=64, ge=1, le=MOST_BATCH)
    """Images of a step, those of all ranks together."""
    ranks: int = Field(default=1, ge=1, le=1_024)
    """Parts of a step, each with its own subnets and its own share of the images. Their gradients are averaged. The
    number of processes that carry them out changes nothing."""
    lr: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Peak learning rate of the low-rank factors. `auto` finds it by short pilots at each of `pilot_rates`; a number
    saves them."""
    vector_lr: float | None = Field(default=None, ge=0, examples=[4e-3])
    """Peak learning rate of vectors and constants; `lr` if not given. In a supernet, more made it worse."""
    spectrum_lr: float | None = Field(default=None, ge=0, examples=[0.1])
    """Peak learning rate of spectra (`fourier`); by `lr` and the layers' sizes if not given."""
    head_lr: float | None = Field(default=None, ge=0, examples=[4e-3])
    """Peak learning rate of the classifier head; `lr` if not given. Three times that helped short trainings."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's decoupled weight decay, on everything that is trained."""
    warmup_steps: int = Field(default=50, ge=0, le=MOST_STEPS)
    """Steps of linear warm-up, at most a tenth of all steps."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    huber_delta: float = Field(default=0.0, ge=0, examples=[1.0])
    """Of numbers: the error of a target, in standard deviations of the training images, from which on the loss grows
    linearly (Huber 1964), so that outliers pull less, in every training of a run; 0 for the squared error. Below it
    the loss is the squared error. What judges stays the squared error, but for patience."""
    balance: Literal["none", "sampler", "loss"] = "none"
    """What makes classes with unequally many images count alike, in every training of a run. `sampler`: an epoch, of as
    many images as ever, has every class equally often, the images of a class in turn. `loss`: the cross-entropy of an
    image is weighted by (images / classes) / (images of its class), and then averaged; a subnet that is distilled
    learns from its teacher as ever."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Largest total norm of the gradients; 0 for no clipping."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1, examples=[0.999])
    """Decay of the weights' moving average, a step, in every training of a run; 0 for none. The average is probed,
    scored and exported in place of the weights. In step n the decay is at most (1 + n) / (10 + n)."""
    patience: int = Field(default=0, ge=0, le=MOST_STEPS)
    """Checks in a row without an improvement after which the supernet's training, that of a fixed method or a refit on
    labels ends; 0 trains all steps. The weights of the best check are kept. It is judged by the cross-entropy at the
    best temperature, on training images that it does not learn from, never on the search split."""
    patience_every: int | None = Field(default=None, ge=1, le=MOST_STEPS, examples=[300])
    """Steps between checks; a twentieth of the training's steps if not given."""
    patience_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training images of each class that judge, and are not learnt from; only with patience."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Stochastic depth in training; the exported model is the same."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the hidden units of low-rank products in training. It has no fast path on GPUs, nor beside others."""
    precision: Precision = "auto"
    """`auto` is bfloat16 autocast on GPUs and float32 on CPUs."""
    recompute: Annotated[Compile, Role.BOOKKEEPING] = "auto"
    """Compute the activations of the model's blocks again in the backward pass (gradient checkpointing): less memory,
    more time, the same numbers. `auto` does so where a step would not fit into memory by an estimate before the first
    one, with a warning; `on` always; `off` never. In every training of a run, those side by side too."""
    memory_gib: Annotated[float | None, Role.BOOKKEEPING] = Field(default=None, gt=0, examples=[40.0])
    """GiB (2**30 bytes) that activations, gradients and merged weights of a step may take, for `recompute`; if not
    given, 0.8 of what is free on a GPU, and no limit on a CPU."""
    seed: Seed = 0
    """Seed of subnets, order of images, augmentation and drop path."""
    record_every: Annotated[int, Role.BOOKKEEPING] = Field(default=25, ge=1, le=MOST_STEPS)
    """Steps between losses in the database."""
    probe_every: Annotated[int, Role.BOOKKEEPING] = Field(default=250, ge=0, le=MOST_STEPS)
    """Steps between measurements of a few fixed subnets; 0 for none."""
    checkpoint_every: Annotated[int, Role.BOOKKEEPING] = Field(default=200, ge=1, le=MOST_STEPS)
    """Steps between checkpoints."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size % self.ranks:
            raise ValueError(
                f"batch_size is {self.batch_size}, which {self.ranks} ranks cannot share equally; "
                f"take a multiple of {self.ranks}"
            )
        return self

    @property
    def warmup(self) -> int:
        """Steps of warm-up that a training of this length takes."""
        return min(self.warmup_steps, self.steps // WARMUP_SHARE)


class TrainingConfig(AugmentRecipe, TrainingRecipe):
    """The recipe of one training; its rate is a number."""

    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the low-rank factors; small models want more, such as 1e-2."""

    @field_validator("lr", mode="before")
    @classmethod
    def _known(cls, lr: Any) -> Any:
        if lr == "auto":
            raise ValueError('"auto" is for runs, whose pilots find the rate; a training needs a number, such as 1e-3')
        return lr

    def for_one_subnet(self, *, steps: int, lr: float | None = None, warmup_steps: int | None = None) -> Self:
        """The same recipe for one subnet alone, in one rank; what is not given stays.

        Args:
            steps: of the training.
            lr: peak learning rate of the low-rank factors; those of all other groups are scaled by the same factor.
            warmup_steps: as the field.
        """
        changes: dict[str, float] = {"steps": steps, "ranks": 1}
        if lr is not None:
            own = {"vector_lr": self.vector_lr, "head_lr": self.head_lr}
            rates = {name: self.lr if rate is None else rate for name, rate in own.items()}
            if self.spectrum_lr is not None:
                rates["spectrum_lr"] = self.spectrum_lr
            # In this order a rate that is the factors' own stays equal to theirs, whatever they are scaled by.
            changes |= {"lr": lr} | {name: lr * (rate / self.lr) for name, rate in rates.items()}
        if warmup_steps is not None:
            changes["warmup_steps"] = warmup_steps
        return self.replace(**changes)


class TrainSection(AugmentRecipe, TrainingRecipe):
    """The supernet's recipe in a run file, whose rate may be left to pilots: short trainings at several rates."""

    pilot_rates: ListOf[Annotated[float, Field(gt=0)]] = (1e-3, 3e-3, 1e-2)
    """Rates of the pilots, where `lr` is `auto`."""
    pilot_steps: int | None = Field(default=None, ge=PILOT_CHECKS, le=MOST_STEPS, examples=[600])
    """Steps of a pilot, which has a whole schedule of its own; a tenth of `steps`, at least 100, if not given."""

    @model_validator(mode="after")
    def _check_pilots(self) -> Self:
        if len(set(self.pilot_rates)) < max(2, len(self.pilot_rates)):
            raise ValueError(
                f"pilot_rates are {list(self.pilot_rates)}; expected two different rates or more, or set lr to the one "
                "rate that is wanted"
            )
        return self

    def at(self, lr: float) -> TrainingConfig:
        """The recipe with this rate."""
        return TrainingConfig(**{name: getattr(self, name) for name in TrainingConfig.model_fields} | {"lr": lr})

    def pilot(self, lr: float) -> TrainingConfig:
        """The recipe of the pilot at this rate, which is judged `PILOT_CHECKS` times."""
        steps = self.pilot_steps or max(PILOT_FLOOR, self.steps // PILOT_SHARE)
        return self.at(lr).replace(steps=steps, probe_every=-(-steps // PILOT_CHECKS), patience=0)
