"""The training loop: a supernet by sampled paths, or one subnet of it."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path as FilePath
from typing import TypeAlias

import torch
from torch import Tensor

from glorasearch.data import TrainSplit
from glorasearch.errors import NonFiniteLossError
from glorasearch.supernet import Supernet
from glorasearch.training.batches import BatchOrder
from glorasearch.training.config import TrainingConfig
from glorasearch.training.optimizer import SupernetOptimizer
from glorasearch.training.paths import PathStrategy
from glorasearch.training.plain_step import PlainStep, Step
from glorasearch.training.randomness import drop_probabilities
from glorasearch.training.rates import peak_rates
from glorasearch.training.schedule import schedule_factor
from glorasearch.weights import CheckpointWriter, frozen_digest, load_checkpoint, snapshot, tensor_digest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What is written down of a training as it goes."""

    step: int
    """Optimiser steps done."""
    values: Mapping[str, float]
    """`loss` (nats, mean since the last record), `lr`, `images_per_second`, `gradient_norm`; or probes' accuracies."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a training ended."""

    steps: int
    seconds: float
    """Wall-clock seconds of the training loop, those before a resume included."""
    loss: float
    """Mean loss of the last records, nats."""


class SupernetTrainer:
    """Trains support tensors and head of a supernet on the training split.

    Every random decision (paths, order of images, drop path) is a pure function of the seed and the step, and a
    checkpoint holds weights and optimiser state; so on one machine's CPU a training that was killed and resumed ends
    with the same bits as one that was not.
    """

    Config: TypeAlias = TrainingConfig

    def __init__(
        self,
        supernet: Supernet,
        data: TrainSplit,
        strategy: PathStrategy,
        config: Config,
        *,
        device: torch.device | str = "cpu",
        checkpoint: FilePath | None = None,
        probe: Callable[[Supernet], Mapping[str, float]] | None = None,
        on_record: Callable[[TrainingRecord], None] | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        """`checkpoint` is where to keep the state (None: nowhere); `probe` measures fixed subnets of the supernet."""
        self._supernet = supernet.to(device)
        self._data, self._strategy, self._config = data, strategy, config
        self._device = torch.device(device)
        self._checkpoint, self._probe = checkpoint, probe
        self._on_record = on_record or (lambda record: None)
        self._on_step = on_step or (lambda step: None)
        self._order = BatchOrder(len(data), config.batch_size, config.seed)
        self._drops = drop_probabilities(supernet)
        self._do = self._make_step()
        self._writer: CheckpointWriter | None = None
        self._step, self._seconds, self._loss = 0, 0.0, float("nan")
        self._recorded = 0, 0.0
        self._pending: list[Tensor] = []
        self._identity = "" if checkpoint is None else self._training_digest()

    def run(self) -> TrainingResult:
        """Train to the last step, from the checkpoint if there is one of this very training.

        A training is the same if configuration, data, space, strategy, backbone and the weights at its start are.

        Raises:
            NonFiniteLossError: if loss, gradients or weights stop being finite; the last checkpoint is from before.
            BackboneError: if the backbone bypasses an adapted layer.
        """
        images, _ = self._data.batch(self._order.indices(0)[:2], self._device)
        self._supernet.check_reached(images)
        drawn_before = self._supernet.draws()
        self._resume()
        self._supernet.train()
        began = time.perf_counter() - self._seconds
        self._writer = None if self._checkpoint is None else CheckpointWriter(self._checkpoint)
        try:
            while self._step < self._config.steps:
                self._pending.append(self._train_step(self._step))
                self._step += 1
                self._on_step(self._step)
                self._seconds = time.perf_counter() - began
                if self._due(self._config.record_every):
                    self._record()
                if self._probe is not None and self._config.probe_every and self._due(self._config.probe_every):
                    self._on_record(TrainingRecord(self._step, self._probe(self._supernet)))
                    self._supernet.train()
                if self._due(self._config.checkpoint_every):
                    self._save()
        finally:
            self._supernet.eval()
            if self._writer is not None:
                self._writer.close()
        for kind, places in self._supernet.warming(drawn_before).items():
            _log.warning(
                "the warm-up of %s has not ended in %d places, whose directions are not chosen yet: train for more "
                "steps, or lower options.%s.warmup in the search space",
                kind,
                places,
                kind,
            )
        return TrainingResult(self._step, self._seconds, self._loss)

    def _make_step(self) -> Step:
        """The fast step on a GPU, unless it is turned off; the plain step elsewhere."""
        config = self._config
        cuda = self._device.type == "cuda"
        mixed = config.precision == "bfloat16" or (config.precision == "auto" and cuda)
        peaks = peak_rates(
            self._supernet.space,
            lr=config.lr,
            vector_lr=config.vector_lr,
            spectrum_lr=config.spectrum_lr,
            head_lr=config.head_lr,
        )
        optimizer = SupernetOptimizer(self._supernet, peaks, weight_decay=config.weight_decay)
        plain = PlainStep(
            self._supernet, optimizer, mixed=mixed, label_smoothing=config.label_smoothing, clip_norm=config.clip_norm,
            seed=config.seed,
        )  # fmt: skip
        if config.compile == "off" or not cuda:
            return plain
        from glorasearch.fused import StepConfig
        from glorasearch.training.fast_step import FastStep

        fused = StepConfig(
            batch_size=config.batch_size,
            paths=tuple(path.distilled for path in self._strategy.paths(0)),
            clip_norm=config.clip_norm,
            weight_decay=config.weight_decay,
            dtype=torch.bfloat16 if mixed else torch.float32,
        )
        return FastStep(
            self._supernet,
            plain,
            peaks,
            fused,
            label_smoothing=config.label_smoothing,
            seed=config.seed,
            strict=config.compile == "on",
        )

    def _due(self, every: int) -> bool:
        return self._step % every == 0 or self._step == self._config.steps

    def _train_step(self, number: int) -> Tensor:
        """One optimiser step; returns `(loss, gradient norm)` on the device, unread."""
        images, labels = self._data.batch(self._order.indices(number), self._device)
        paths = self._strategy.paths(number)
        result = self._do.run(number, paths, images, labels, self._factor(number))
        anew = self._supernet.stepped([path.subnet for path in paths])
        if anew:
            self._do.forget(anew)
        return result

    def _factor(self, number: int) -> float:
        return schedule_factor(number, self._config.steps, self._config.warmup_steps)

    def _record(self) -> None:
        """Read the losses since the last record; they are read rarely because reading waits for the device."""
        recent = torch.stack(self._pending).cpu()
        self._pending.clear()
        finite = torch.isfinite(recent).all(dim=1)
        if not bool(finite.all()):
            first = int((~finite).nonzero()[0])
            loss, norm = recent[first].tolist()
            step = self._step - len(recent) + first + 1
            raise self._not_finite(f"training stopped in step {step}: loss {loss}, gradient norm {norm}")
        self._loss = float(recent[:, 0].mean())
        lr = self._config.lr * self._factor(self._step - 1)
        steps, seconds = self._step - self._recorded[0], self._seconds - self._recorded[1]
        self._recorded = self._step, self._seconds
        values = {
            "loss": self._loss,
            "lr": lr,
            "gradient_norm": float(recent[:, 1].mean()),
            "images_per_second": steps * self._config.batch_size / max(seconds, 1e-9),
        }
        self._on_record(TrainingRecord(self._step, values))

    def _not_finite(self, what: str) -> NonFiniteLossError:
        config, kept = self._config, self._checkpoint
        if self._writer is not None:
            self._writer.wait()
        return NonFiniteLossError(
            f"{what}. Try a lower learning rate (train.lr is {config.lr:g}), more warm-up (train.warmup_steps is "
            f"{config.warmup_steps}), clipping (train.clip_norm is {config.clip_norm:g}) or "
            'train.precision = "float32". '
            + (f"The last good checkpoint is {kept}" if kept is not None and kept.exists() else "No checkpoint is kept")
        )

    def _training_digest(self) -> str:
        """What a checkpoint must have been made with to be resumed."""
        config = asdict(self._config)
        del config["compile"]  # either step goes on with the other's state
        content = {
            "config": config,
            "data": self._data.digest,
            "space": self._supernet.space.digest,
            "strategy": self._strategy.identity(),
            "backbone": frozen_digest(self._supernet),
            "drops": self._drops,
            "start": tensor_digest(self._supernet.adapter_state()),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _save(self) -> None:
        if self._writer is None:
            return
        if self._pending:
            self._record()
        tensors = {f"weights/{name}": value for name, value in self._supernet.adapter_state().items()}
        tensors |= {f"optimizer/{name}": value for name, value in self._do.state().items()}
        copies = snapshot(tensors)
        for name, value in copies.items():
            if not bool(torch.isfinite(value).all()):  # the loss of the next step would be the first to show it
                raise self._not_finite(f"training stopped after step {self._step}: {name} is no longer finite")
        meta = {"identity": self._identity, "step": self._step, "seconds": self._seconds, "loss": self._loss}
        self._writer.save(copies, meta)

    def _resume(self) -> None:
        found = load_checkpoint(self._checkpoint) if self._checkpoint is not None else None
        if found is None:
            return
        tensors, meta = found
        if meta["identity"] != self._identity:
            _log.warning(
                "checkpoint %s belongs to another training (other settings, data, space, backbone or start): "
                "starting at step 0",
                self._checkpoint,
            )
            return
        self._supernet.load_adapter_state(_part(tensors, "weights/"))
        self._do.load_state(_part(tensors, "optimizer/"))
        self._step, self._seconds, self._loss = int(meta["step"]), float(meta["seconds"]), float(meta["loss"])
        self._recorded = self._step, self._seconds
        self._pending.clear()
        self._on_step(self._step)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
