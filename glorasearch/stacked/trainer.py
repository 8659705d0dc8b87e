"""The training loop of a stack."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from glorasearch.config import Compile
from glorasearch.data import TrainSplit
from glorasearch.identity import digest, identity
from glorasearch.stacked.build import Order, make_engine
from glorasearch.stacked.member import Member, check_members
from glorasearch.stacked.supernets import Supernets
from glorasearch.stacked.targets import Batches, MixedImages
from glorasearch.training.checkpoints import CheckpointStore, FileCheckpointStore
from glorasearch.training.memory import Kept, choose
from glorasearch.training.optimizer import lr_scale
from glorasearch.training.records import TrainingRecord
from glorasearch.weights import snapshot, tensor_digest

_log = logging.getLogger(__name__)
CHUNK = 256
"""Images of all members together in one forward pass of `StackedTrainer.logits`."""
STEPS_AT_ONCE = 4
"""On a GPU that pass has at least as many images as so many steps: what needs no gradient takes
a tenth of the memory."""


class Split(Protocol):
    """Images by position: any of the splits of `glorasearch.data`."""

    def batch(self, indices: Tensor, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Images `(n, C, H, W)` and labels `(n,)`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class StackedResult:
    """How the training of a stack ended."""

    steps: int
    seconds: float
    """Wall-clock seconds of the training loop, those before a resume included."""
    loss: Tensor
    """`(M,)`: each member's mean loss of the last record, nats; not finite for a member that diverged."""
    finite: Tensor
    """`(M,)`: whether loss, gradients and weights of a member stayed finite. The others are not disturbed by one that
    does not."""


class StackedTrainer:
    """Trains M adapted models on one frozen backbone: in every step of the stack each takes one of its own.

    Every member ends with the weights that `SupernetTrainer` with `Fixed(subnet)` gives it alone (to rounding): its own
    order of images, learning rates and schedule, decay, clipping, label smoothing and drop path, whatever its
    neighbours do. On one machine's CPU a training that was killed and resumed ends with the same bits.
    """

    def __init__(
        self,
        backbone: nn.Module | Supernets,
        members: Sequence[Member],
        data: TrainSplit,
        *,
        device: torch.device | str = "cpu",
        compile: Compile = "auto",
        checkpoint: Path | CheckpointStore | None = None,
        on_record: Callable[[TrainingRecord], None] | None = None,
        on_step: Callable[[int], None] | None = None,
        targets: MixedImages | None = None,
        side_by_side: bool | None = None,
        in_turns: bool | None = None,
    ) -> None:
        """Prepare a training from the members' starts.

        Args:
            backbone: frozen; it is not changed. Built with the largest drop path of the members. Or the supernets on
                it, which whoever trains several stacks on it keeps between them.
            members: what is trained.
            data: the training images.
            device: where to train.
            compile: on GPUs, `auto` and `on` capture the step in a CUDA graph; `on` compiles it first, `auto` where
                that pays.
            checkpoint: where to keep the state; nowhere if not given.
            on_record: called with every record: the means over the members that have not diverged.
            on_step: called with the number of steps done, after each of them.
            targets: mixed images of `data` with soft targets, to learn from in place of the labels; the members'
                `images` are positions in them then.
            side_by_side: one forward pass for all members, or one after the other in every step, as it is also done
                where a backbone cannot be stacked; if not given, the former on GPUs, the latter on CPUs, where more
                images at once are no faster.
            in_turns: let the members, which are of one space then, take turns in the fused step of `SupernetTrainer`,
                on a GPU compiled and captured unless `compile` is off; where that does not cover them, `side_by_side`
                says what is done. If neither is given, so it is on a GPU that the step of one member fills, if they
                have steps enough to compile it for (`build.FILLS`, `build.WORTH`), unless `compile` is off.

        Raises:
            ConfigError: if recipes or images do not fit.
            SearchSpaceError: if a subnet is not of its member's space.
            WeightStoreError: if a start belongs to another supernet.
            BackboneError: if the backbone bypasses an adapted layer.
        """
        if targets is not None:
            targets.check(len(data), data.task)
        check_members(members, len(data) if targets is None else len(targets))
        self._members, self._data, self._targets = tuple(members), data, targets
        self._supernets, self._device = Supernets.on(backbone), torch.device(device)
        self._config = members[0].config
        self._batches = Batches(members, data, targets)
        self._checkpoints = FileCheckpointStore(checkpoint) if isinstance(checkpoint, Path) else checkpoint
        self._on_record = on_record or (lambda record: None)
        self._on_step = on_step or (lambda step: None)
        order = Order(
            supernets=self._supernets,
            members=members,
            data=data,
            device=self._device,
            compile=compile,
            class_weights=self._batches.class_weights,
        )
        self._engine, starts = make_engine(order, side_by_side=side_by_side, in_turns=in_turns)
        self._done, self._seconds = 0, 0.0
        self._unread: list[Tensor] = []
        self._loss = torch.full((len(members),), float("nan"))
        self._finite = torch.ones(len(members), dtype=torch.bool)
        self.facts = self._facts(starts) if self._checkpoints is not None else {}
        """What the training is a function of, as JSON; empty if no checkpoint needs it."""
        self.identity = digest(self.facts)
        """Digest of the facts: a checkpoint of another training is not resumed."""

    def run(self) -> StackedResult:
        """Train to the last step, from the checkpoint if there is one of the same training.

        A member that diverges does not end the training: see `StackedResult.finite`.
        """
        self._resume()
        if self._done < self._config.steps:
            engine = self._engine
            choose(self._config, self._device, engine, engine.fixed_bytes, self._config.batch_size, self._kept)
        try:
            self._train()
        finally:
            if self._checkpoints is not None:
                self._checkpoints.close()
        for name, places in self._engine.warming().items():
            _log.warning(
                "the warm-up of %s is unfinished in %d places of the stack, whose directions are not chosen yet: train "
                "for more steps, or lower options.%s.warmup in the search space",
                name,
                places,
                name,
            )
        self._finite &= self._engine.finite()
        return StackedResult(self._done, self._seconds, self._loss.clone(), self._finite.clone())

    def logits(self, split: Split, positions: Tensor) -> Tensor:
        """Logits of every member, `(M, n, classes)` float32 on the CPU, in evaluation mode.

        Args:
            split: whose images are asked for.
            positions: in the split: `(n,)` for all members, or `(M, n)` for each its own.
        """
        count = len(self._members)
        own = positions.expand(count, -1) if positions.ndim == 1 else positions
        parts: list[Tensor] = []
        each = max(1, CHUNK // count)
        if self._device.type != "cpu":  # every pass merges all weights anew
            each = max(each, STEPS_AT_ONCE * self._config.batch_size)
        for chosen in torch.split(own, each, dim=1):
            images, _ = split.batch(chosen.reshape(-1), self._device)
            parts.append(self._engine.logits(images).cpu())
        return torch.cat(parts, dim=1)

    def state(self, member: int) -> dict[str, Tensor]:
        """The adapter state of a member, on the CPU: for `Supernet(backbone, space).load_adapter_state`."""
        state = self._supernets.start(self._members[member]) | self._engine.member_state(member)
        return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}

    def _train(self) -> None:
        """All remaining steps, with their records and checkpoints."""
        began = time.perf_counter() - self._seconds
        read, before = self._done, self._seconds
        while self._done < self._config.steps:
            images, targets = self._batches.batch(self._done, self._device)
            self._unread.append(self._engine.step(self._done, images, targets, self._scales(self._done)))
            self._done += 1
            self._on_step(self._done)
            self._seconds = time.perf_counter() - began
            saves = self._due(self._config.checkpoint_every)
            if saves or self._due(self._config.record_every):
                self._record(self._done - read, self._seconds - before)
                read, before = self._done, self._seconds
            if saves:
                self._save()

    def _kept(self, count: int) -> Kept:
        """What a step keeps with so many images a member."""
        images, _ = self._batches.batch(0, self._device)
        own = images.view(len(self._members), -1, *images.shape[1:])[:, :count]
        return self._engine.kept(own.flatten(0, 1))

    def _due(self, every: int) -> bool:
        return self._done % every == 0 or self._done == self._config.steps

    def _scales(self, step: int) -> list[float]:
        return [lr_scale(step, member.config.steps, member.config.warmup) for member in self._members]

    def _record(self, steps: int, seconds: float) -> None:
        """Read the losses, which waits for the device."""
        recent = torch.stack(self._unread).cpu()
        self._unread.clear()
        self._loss = recent[..., 0].mean(0)
        self._finite &= torch.isfinite(recent).all(dim=(0, 2))
        loss, norm = recent.mean(0)[self._finite].mean(0).tolist() if bool(self._finite.any()) else (float("nan"),) * 2
        values = {
            "loss": loss,
            "gradient_norm": norm,
            "images_per_second": steps * self._config.batch_size * len(self._members) / max(seconds, 1e-9),
            "members": float(self._finite.sum()),
        }
        self._on_record(TrainingRecord(self._done, values))

    def _save(self) -> None:
        if self._checkpoints is None:
            return
        tensors = {f"engine/{name}": value for name, value in self._engine.state().items()}
        meta = {"identity": self.identity, "step": self._done, "seconds": self._seconds}
        self._checkpoints.save(snapshot(tensors | {"loss": self._loss, "finite": self._finite}), meta)

    def _resume(self) -> None:
        """Continue from the checkpoint of this very training, if there is one."""
        found = self._checkpoints.load() if self._checkpoints is not None else None
        if found is None:
            return
        if found.meta["identity"] != self.identity:
            _log.warning(
                "checkpoint %s belongs to another training (other members, settings, data or backbone): starting at "
                "step 0",
                None if self._checkpoints is None else self._checkpoints.location(),
            )
            return
        engine = {name: value for name, value in found.tensors.items() if name.startswith("engine/")}
        self._engine.load_state({name.removeprefix("engine/"): value for name, value in engine.items()})
        self._loss, self._finite = found.tensors["loss"], found.tensors["finite"]
        self._done, self._seconds = int(found.meta["step"]), float(found.meta["seconds"])
        self._on_step(self._done)

    @property
    def kind(self) -> str:
        """`side by side`, `in turns` or `one by one`: how the members are trained."""
        return self._engine.kind

    def _facts(self, starts: Sequence[str]) -> dict[str, Any]:
        """What a checkpoint must agree in to be resumed."""
        return {
            "kind": self._engine.kind,
            "data": self._data.digest,
            "targets": None if self._targets is None else self._targets.digest,
            "backbone": self._supernets.backbone_digest,
            "members": [_facts_of(member, start) for member, start in zip(self._members, starts, strict=True)],
        } | self._batches.facts


def _facts_of(member: Member, start: str) -> dict[str, Any]:
    return {
        "config": identity(member.config),
        "space": member.space.digest,
        "subnet": member.subnet.digest,
        "images": tensor_digest({"images": member.images}),
        "start": start,
    }
