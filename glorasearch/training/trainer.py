"""The training loop: a supernet by sampled paths, or one subnet of it."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Any, TypeAlias

import torch
from torch import Tensor

from glorasearch.data import TrainSplit
from glorasearch.errors import ConfigError, NonFiniteLossError, RunError
from glorasearch.supernet import Supernet
from glorasearch.training.batches import BatchOrder
from glorasearch.training.choose_step import choose_step
from glorasearch.training.config import TrainingConfig
from glorasearch.training.keeper import FileKeeper, Keeper, all_equal, shared_state
from glorasearch.training.paths import PathStrategy
from glorasearch.training.plain_step import Share, Step
from glorasearch.training.randomness import drop_probabilities
from glorasearch.training.records import TrainingRecord, TrainingResult
from glorasearch.training.schedule import schedule_factor
from glorasearch.training.world import ALONE, World
from glorasearch.weights import frozen_digest, snapshot, tensor_digest

_log = logging.getLogger(__name__)


class SupernetTrainer:
    """Trains support tensors and head of a supernet on the training split.

    Every random decision (paths, order of images, drop path) is a pure function of the seed, the step and the rank, and
    a checkpoint holds weights and optimiser state; so on one machine's CPU a training that was killed and resumed ends
    with the same bits as one that was not.

    The ranks of a step may be shared by the processes of a `World`, each of which has a trainer over the same supernet,
    data and configuration. All of them make the same steps from the same mean gradients, so how many processes there
    are changes no bit either, and a training may be resumed with another number of them.
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
        world: World = ALONE,
        checkpoint: FilePath | Keeper | None = None,
        probe: Callable[[Supernet], Mapping[str, float]] | None = None,
        on_record: Callable[[TrainingRecord], None] | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        """`checkpoint` is where to keep the state (None: nowhere); `probe` measures fixed subnets of the supernet.

        Of the processes of a `world`, process 0 alone probes, and keeps and tells anything.

        Raises:
            ConfigError: if the processes cannot share the ranks equally.
        """
        if config.ranks % world.size:
            raise ConfigError(
                f"{world.size} processes cannot share {config.ranks} ranks (train.ranks) equally; their number must "
                "divide that of the ranks"
            )
        if world.process:
            checkpoint = probe = on_record = None
        self._world = world
        self._supernet = supernet.to(device)
        self._data, self._strategy, self._config = data, strategy, config
        self._device = torch.device(device)
        self._keeper = FileKeeper(checkpoint) if isinstance(checkpoint, FilePath) else checkpoint
        self._probe = probe
        self._on_record = on_record or (lambda record: None)
        self._on_step = on_step or (lambda step: None)
        self._order = BatchOrder(len(data), config.batch_size, config.seed)
        self._drops = drop_probabilities(supernet)
        self._do = self._make_step()
        self._step, self._seconds, self._loss = 0, 0.0, float("nan")
        self._recorded = 0, 0.0
        self._pending: list[Tensor] = []
        self.facts = {} if checkpoint is None and world.size == 1 else self._facts()
        """What makes a training another one, as JSON; nothing where neither a checkpoint nor a process needs it."""
        self.identity = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        """Of the training: a checkpoint of another one is not resumed."""

    def run(self) -> TrainingResult:
        """Train to the last step, from the checkpoint if there is one of this very training.

        A training is the same if configuration, data, space, strategy, backbone and the weights at its start are.

        Raises:
            NonFiniteLossError: if loss, gradients or weights stop being finite; the last checkpoint is from before.
            BackboneError: if the backbone bypasses an adapted layer.
            RunError: if the processes of the world do not have the same training.
            WorkerLostError: if another process of the world has gone.
        """
        images, _ = self._data.batch(self._order.indices(0)[:2], self._device)
        self._supernet.check_reached(images)
        drawn_before = self._supernet.draws()
        self._resume()
        self._supernet.train()
        began = time.perf_counter() - self._seconds
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
            if self._keeper is not None:
                self._keeper.close()
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
        return choose_step(self._supernet, self._strategy, self._config, self._device)

    def _due(self, every: int) -> bool:
        return self._step % every == 0 or self._step == self._config.steps

    def _train_step(self, number: int) -> Tensor:
        """One optimiser step; returns `(loss, gradient norm)` on the device, unread."""
        ranks = self._config.ranks
        if ranks == 1:
            images, labels = self._data.batch(self._order.indices(number), self._device)
            paths = self._strategy.paths(number)
            result = self._do.run(number, paths, images, labels, self._factor(number))
            anew = self._supernet.stepped([path.subnet for path in paths])
        else:
            each = ranks // self._world.size
            own = [self._share(number, rank) for rank in range(self._world.process * each, ranks)[:each]]
            result = self._do.run_ranks(number, own, self._world, self._factor(number))
            drawn = (path.subnet for rank in range(ranks) for path in self._strategy.paths(number, rank))
            anew = self._supernet.stepped(drawn)
        if anew:
            self._do.forget(anew)
        return result

    def _share(self, number: int, rank: int) -> Share:
        """What a rank does in a step."""
        indices = self._order.share(number, rank, self._config.ranks)
        images, labels = self._data.batch(indices, self._device)
        return Share(rank, self._strategy.paths(number, rank), images, labels)

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
        config = self._config
        kept: str | None = None
        if self._keeper is not None:
            self._keeper.wait()
            kept = self._keeper.kept()
        return NonFiniteLossError(
            f"{what}. Try a lower learning rate (train.lr is {config.lr:g}), more warm-up (train.warmup_steps is "
            f"{config.warmup_steps}), clipping (train.clip_norm is {config.clip_norm:g}) or "
            'train.precision = "float32". '
            + (f"The last good checkpoint is {kept}" if kept is not None else "No checkpoint is kept")
        )

    def _facts(self) -> dict[str, Any]:
        """What a checkpoint must have been made with to be resumed, and what processes must agree in."""
        config = asdict(self._config)
        del config["compile"]  # either step goes on with the other's state
        if config["ranks"] == 1:  # as it was before there were ranks
            del config["ranks"]
        return {
            "config": config,
            "data": self._data.digest,
            "space": self._supernet.space.digest,
            "strategy": self._strategy.identity(),
            "backbone": frozen_digest(self._supernet),
            "drops": self._drops,
            "start": tensor_digest(self._supernet.adapter_state()),
        }

    def _save(self) -> None:
        """Keep a checkpoint, and see to it that all processes go on from the same."""
        if self._keeper is None and self._world.size == 1:
            return
        if self._pending:
            self._record()
        tensors = {f"weights/{name}": value for name, value in self._supernet.adapter_state().items()}
        tensors |= {f"optimizer/{name}": value for name, value in self._do.state().items()}
        copies = snapshot(tensors)
        for name, value in copies.items():
            if not bool(torch.isfinite(value).all()):  # the loss of the next step would be the first to show it
                raise self._not_finite(f"training stopped after step {self._step}: {name} is no longer finite")
        meta = {"identity": self.identity, "step": self._step, "seconds": self._seconds, "loss": self._loss}
        if self._world.size > 1 and not all_equal(self._world, tensor_digest(copies).encode(), self._device):
            self._level(copies, meta)
        if self._keeper is not None:
            self._keeper.save(copies, meta)

    def _level(self, copies: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Give every process what process 0 has: machines of different kinds round differently."""
        if self._world.process == 0:
            _log.warning(
                "step %d: other processes round differently, and go on from the first one's weights", self._step
            )
        state = shared_state(self._world, (dict(copies), dict(meta)))
        if state is not None and self._world.process:
            self._take(state[0])

    def _resume(self) -> None:
        """Go on from the checkpoint of this very training, if there is one."""
        if not all_equal(self._world, self.identity.encode(), self._device):
            raise RunError(
                f"process {self._world.process} of {self._world.size}: the processes of this training do not have the "
                "same images, backbone, space or configuration; see that every machine finds the same files"
            )
        found = self._keeper.load() if self._keeper is not None else None
        if found is not None and found[1]["identity"] != self.identity:
            _log.warning(
                "checkpoint %s belongs to another training (other settings, data, space, backbone or start): "
                "starting at step 0",
                None if self._keeper is None else self._keeper.kept(),
            )
            found = None
        found = shared_state(self._world, found)
        if found is None:
            return
        tensors, meta = found
        self._take(tensors)
        self._step, self._seconds, self._loss = int(meta["step"]), float(meta["seconds"]), float(meta["loss"])
        self._recorded = self._step, self._seconds
        self._pending.clear()
        self._on_step(self._step)

    def _take(self, tensors: Mapping[str, Tensor]) -> None:
        self._supernet.load_adapter_state(_part(tensors, "weights/"))
        self._do.load_state(_part(tensors, "optimizer/"))


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
