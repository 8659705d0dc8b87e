"""The training loop: a supernet by sampled subnets, or one subnet of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from glorasearch.config import Compile, is_mixed
from glorasearch.data import TrainSplit
from glorasearch.errors import ConfigError, RunError
from glorasearch.identity import digest
from glorasearch.supernet import Supernet
from glorasearch.training.average import WeightAverage
from glorasearch.training.balance import loss_weights
from glorasearch.training.batches import TrainingBatches
from glorasearch.training.checkpoints import (
    Checkpoint,
    CheckpointStore,
    FileCheckpointStore,
    broadcast_checkpoint,
    with_prefix,
)
from glorasearch.training.communicator import Communicator, SingleProcess
from glorasearch.training.config import TrainingConfig
from glorasearch.training.facts import facts_of
from glorasearch.training.memory import fit_step
from glorasearch.training.optimizer import SupernetOptimizer, lr_scale, peak_rates
from glorasearch.training.patience import Patience, hold_out
from glorasearch.training.plain_step import PlainStep
from glorasearch.training.records import LossLog, TrainingRecord, TrainingResult
from glorasearch.training.sampling import SamplingStrategy
from glorasearch.training.step import RankBatch, Step
from glorasearch.weights import snapshot, tensor_digest

_log = logging.getLogger(__name__)


class SupernetTrainer:
    """Trains support tensors and head of a supernet on the training split.

    Every random decision (subnets, order of images, augmentation, drop path) is a pure function of the seed, the step
    and the rank, and a checkpoint holds weights and optimiser state; so on one machine's CPU a training that was killed
    and resumed ends with the same bits as one that ran through.

    The processes of a `Communicator` may share the ranks of a step. Each has a trainer over the same supernet, data and
    configuration, and all apply the same mean gradients, so the number of processes changes no bit either, and a
    training may be resumed with another number of them.
    """

    Config: TypeAlias = TrainingConfig

    def __init__(
        self,
        supernet: Supernet,
        data: TrainSplit,
        strategy: SamplingStrategy,
        config: Config,
        *,
        device: torch.device | str = "cpu",
        compile: Compile = "auto",
        communicator: Communicator | None = None,
        checkpoint: Path | CheckpointStore | None = None,
        probe: Callable[[Supernet], Mapping[str, float]] | None = None,
        on_record: Callable[[TrainingRecord], None] | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare a training from the supernet's current weights.

        Args:
            supernet: what is trained; it is moved to `device`.
            data: the training images.
            strategy: which subnets a step samples.
            config: the recipe.
            device: where to train.
            compile: on GPUs, compile and capture the step: `auto` falls back to the plain step if a model cannot be;
                `on` fails then; `off` is the plain step. Either step continues from the other's state.
            communicator: the processes that share the ranks; this one alone if not given.
            checkpoint: where to keep the state, by process 0; nowhere if not given.
            probe: measures fixed subnets of the supernet, in process 0.
            on_record: called with every record, in process 0.
            on_step: called with the number of steps done, after each of them.

        Raises:
            ConfigError: if the processes cannot share the ranks equally, or there are no classes to balance.
        """
        self._communicator = communicator or SingleProcess()
        if config.ranks % self._communicator.size:
            raise ConfigError(
                f"{self._communicator.size} processes cannot share {config.ranks} ranks (train.ranks) equally; their "
                "number must divide that of the ranks"
            )
        if self._communicator.process:
            checkpoint = probe = on_record = None
        self._supernet = supernet.to(device)
        supernet.set_dropout(config.dropout)
        self._strategy, self._config, self._compile = strategy, config, compile
        self._data, judged = hold_out(data, config)
        self._device = torch.device(device)
        self._checkpoints = FileCheckpointStore(checkpoint) if isinstance(checkpoint, Path) else checkpoint
        self._probe = probe
        self._on_record = on_record or (lambda record: None)
        self._on_step = on_step or (lambda step: None)
        self._batches = TrainingBatches(config, self._data)
        self._losses = LossLog(config, self._checkpoints)
        self._step = self._make_step()
        self._average = WeightAverage(supernet, config.ema_decay)
        self._patience = Patience(judged, strategy, config, mixed=is_mixed(config.precision, self._device.type))
        self._done, self._seconds = 0, 0.0
        needs_facts = self._checkpoints is not None or self._communicator.size > 1
        own = facts_of(supernet, data.digest, strategy, config) if needs_facts else {}
        self.facts = own | self._batches.facts if needs_facts else {}
        """What the training is a function of, as JSON; empty if neither a checkpoint nor another process needs it."""
        self.identity = digest(self.facts)
        """Digest of the facts: a checkpoint of another training is not resumed."""

    def run(self) -> TrainingResult:
        """Train to the last step, or until patience ends it, from the checkpoint if there is one of this training.

        Two trainings are the same if configuration, data, space, strategy, backbone and initial weights are.

        Raises:
            NonFiniteLossError: if loss, gradients or weights stop being finite; the last checkpoint precedes that.
            BackboneError: if the backbone bypasses an adapted layer.
            RunError: if the processes do not have the same training.
            WorkerLostError: if another process is gone.
        """
        self._supernet.check_reached(self._batches.some(self._device))
        draws_before = self._supernet.warm_ups.draws()
        self._resume()
        self._supernet.train()
        if self._done < self._config.steps:
            fit_step(self._step, self._supernet, self._config, self._batches.some(self._device))
        try:
            self._train()
        finally:
            self._supernet.eval()
            if self._checkpoints is not None:
                self._checkpoints.close()
        if not self._patience.finish(self._supernet):
            self._average.take()
        for name, places in self._supernet.warm_ups.running(draws_before).items():
            _log.warning(
                "the warm-up of %s is unfinished in %d places, whose directions are not chosen yet: train for more "
                "steps, or lower options.%s.warmup in the search space",
                name,
                places,
                name,
            )
        judged = self._patience.kept_step, self._patience.images
        return TrainingResult(self._done, self._seconds, self._losses.loss, *judged)

    def _train(self) -> None:
        """All remaining steps, with their records, probes and checkpoints."""
        began = time.perf_counter() - self._seconds
        while self._done < self._config.steps and not self._patience.over:
            self._losses.append(self._train_step(self._done))
            self._done += 1
            self._on_step(self._done)
            self._seconds = time.perf_counter() - began
            if self._patience.due(self._done):
                self._check()
            if self._due(self._config.record_every):
                self._record()
            if self._probe is not None and self._config.probe_every and self._due(self._config.probe_every):
                with self._average.active():
                    self._on_record(TrainingRecord(self._done, self._probe(self._supernet)))
                self._supernet.train()
            if self._due(self._config.checkpoint_every):
                self._save()

    def _due(self, every: int) -> bool:
        return self._done % every == 0 or self._done == self._config.steps or self._patience.over

    def _check(self) -> None:
        with self._average.active():
            score = self._patience.check(self._done, self._supernet, self._communicator)
        self._on_record(TrainingRecord(self._done, {"patience_tempered": score}))

    def _train_step(self, number: int) -> Tensor:
        """One optimiser step; returns `(2,)`, loss and gradient norm, on the device (not synchronised)."""
        ranks, scale = self._config.ranks, self._lr_scale(number)
        if ranks == 1:
            batch = self._rank_batch(number, 0)
            result = self._step.run(number, batch.sampled, batch.images, batch.labels, scale)
            sampled = list(batch.sampled)
        else:
            count = ranks // self._communicator.size
            first = self._communicator.process * count
            batches = [self._rank_batch(number, rank) for rank in range(first, first + count)]
            result = self._step.run_ranks(number, batches, self._communicator, scale)
            sampled = [one for rank in range(ranks) for one in self._strategy.sample(number, rank)]
        restarted = self._supernet.warm_ups.step([one.subnet for one in sampled])
        if restarted:
            self._step.forget(restarted)
        self._average.update(number, restarted)
        return result

    def _rank_batch(self, number: int, rank: int) -> RankBatch:
        images, labels = self._batches.rank(number, rank, self._device)
        return RankBatch(rank, self._strategy.sample(number, rank), images, labels)

    def _lr_scale(self, number: int) -> float:
        return lr_scale(number, self._config.steps, self._config.warmup)

    def _record(self) -> None:
        lr = self._config.lr * self._lr_scale(self._done - 1)
        self._on_record(self._losses.read(self._done, self._seconds, lr))

    def _save(self) -> None:
        """Store a checkpoint, and make sure that all processes continue from the same state."""
        if self._checkpoints is None and self._communicator.size == 1:
            return
        if self._losses.has_unread:
            self._record()
        tensors = {f"weights/{name}": value for name, value in self._supernet.adapter_state().items()}
        tensors |= {f"optimizer/{name}": value for name, value in self._step.state().items()}
        tensors |= {f"average/{name}": value for name, value in self._average.state().items()}
        best, numbers = self._patience.state()
        copies = snapshot(tensors | {f"best/{name}": value for name, value in best.items()})
        for name, value in copies.items():
            if not bool(torch.isfinite(value).all()):  # the loss of the next step would be the first to show it
                raise self._losses.diverged(f"training stopped after step {self._done}: {name} is no longer finite")
        meta = {"identity": self.identity, "step": self._done, "seconds": self._seconds, "loss": self._losses.loss}
        meta |= numbers
        if self._communicator.size > 1:
            self._synchronise(Checkpoint(copies, meta))
        if self._checkpoints is not None:
            self._checkpoints.save(copies, meta)

    def _synchronise(self, checkpoint: Checkpoint) -> None:
        """Give every process the state of process 0 if theirs differ: machines of different kinds round differently."""
        if self._communicator.all_equal(tensor_digest(checkpoint.tensors).encode(), self._device):
            return
        if self._communicator.process == 0:
            _log.warning(
                "step %d: the processes round differently; all continue from the weights of process 0", self._done
            )
        state = broadcast_checkpoint(self._communicator, checkpoint)
        if state is not None and self._communicator.process:
            self._restore(state)

    def _resume(self) -> None:
        """Continue from the checkpoint of this very training, if there is one."""
        communicator = self._communicator
        if not communicator.all_equal(self.identity.encode(), self._device):
            raise RunError(
                f"process {communicator.process} of {communicator.size}: the processes of this training do not have "
                "the same images, backbone, space or configuration; make sure that every machine finds the same files"
            )
        found = self._checkpoints.load() if self._checkpoints is not None else None
        if found is not None and found.meta["identity"] != self.identity:
            _log.warning(
                "checkpoint %s belongs to another training (other settings, data, space, backbone or initial weights): "
                "starting at step 0",
                None if self._checkpoints is None else self._checkpoints.location(),
            )
            found = None
        found = broadcast_checkpoint(communicator, found)
        if found is None:
            return
        self._restore(found)
        self._done, self._seconds = int(found.meta["step"]), float(found.meta["seconds"])
        self._losses.resume(self._done, self._seconds, float(found.meta["loss"]))
        self._on_step(self._done)

    def _restore(self, found: Checkpoint) -> None:
        tensors = found.tensors
        self._supernet.load_adapter_state(with_prefix(tensors, "weights/"))
        self._step.load_state(with_prefix(tensors, "optimizer/"))
        self._average.load_state(with_prefix(tensors, "average/"))
        self._patience.load_state(with_prefix(tensors, "best/"), found.meta)

    def _make_step(self) -> Step:
        """The fast step on a GPU, unless it is turned off; the plain step elsewhere."""
        supernet, config = self._supernet, self._config
        cuda = self._device.type == "cuda"
        peaks = peak_rates(supernet.space, config)
        plain = PlainStep(
            supernet,
            SupernetOptimizer(supernet, peaks, weight_decay=config.weight_decay),
            mixed=is_mixed(config.precision, self._device.type),
            label_smoothing=config.label_smoothing,
            clip_norm=config.clip_norm,
            seed=config.seed,
            class_weights=loss_weights(config, self._data, self._device),
            task=self._data.task.trained_by(config.huber_delta),
        )
        if self._compile == "off" or not cuda:
            return plain
        from glorasearch.training.fast_step import FastStep  # needs Triton, which only a GPU does

        return FastStep(supernet, plain, peaks, self._strategy, config, strict=self._compile == "on")
