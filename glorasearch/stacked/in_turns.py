"""The members of a stack in turns: one supernet and one fused step for all, where one member's step fills the card."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor

from glorasearch.config import Compile, is_mixed
from glorasearch.errors import GlorasearchError, first_line
from glorasearch.fused import FusedStep, Rows, StepConfig, UnfusableError, pool_of
from glorasearch.stacked.alone import logits_of
from glorasearch.stacked.engine import Engine
from glorasearch.stacked.member import Member
from glorasearch.supernet import Supernet
from glorasearch.tasks import Task
from glorasearch.training.average import WeightAverage
from glorasearch.training.config import TrainingConfig
from glorasearch.training.fast_step import check_covered
from glorasearch.training.memory import Kept, fits, fixed_bytes, kept_by
from glorasearch.training.optimizer import peak_rates
from glorasearch.training.step import drop_probabilities, model_randomness

_log = logging.getLogger(__name__)
ALIKE: Final = ("clip_norm", "weight_decay", "label_smoothing", "drop_path", "dropout")
"""The settings that are constants of a captured step: members that take turns share them."""


class InTurns(Engine):
    """In every step each member's weights and moments are copied to where the step has them, and back after it.

    That is the step of a supernet (`fused.FusedStep`), on a GPU compiled and captured once for all members. Subnets,
    learning rates, seeds, starts, schedules and weights of classes are each member's own. A member that diverges
    leaves nothing behind: all that a step reads is its own or is computed anew.
    """

    kind = "in turns"

    def __init__(
        self,
        members: Sequence[Member],
        supernet: Supernet,
        starts: Iterable[Mapping[str, Tensor]],
        task: Task,
        compile: Compile,
        class_weights: Tensor | None = None,
    ) -> None:
        """Prepare the step.

        Args:
            members: which `check_turns` allows.
            supernet: of their space, on the device of the training; it is the engine's own from now on.
            starts: the adapter state of each member at its start; one is asked for at a time.
            task: has the members' losses.
            compile: on a GPU, `auto` and `on` compile and capture the step; with `auto` it runs without if that fails.
            class_weights: `(M, classes)`, of images in the members' losses.

        Raises:
            WeightStoreError: if a start belongs to another supernet.
        """
        config, pool = members[0].config, pool_of(supernet)
        device = pool.flat.device
        self._supernet, self._strict, self._proven = supernet, compile == "on", False
        self._mixed = is_mixed(config.precision, device.type)
        self._drops = bool(drop_probabilities(supernet))
        self._class_weights = None if class_weights is None else class_weights.to(device)
        self._weights = None if self._class_weights is None else self._class_weights[0].clone()
        """`(classes,)`: those of the member whose turn it is."""
        step = StepConfig(
            clip_norm=config.clip_norm,
            weight_decay=config.weight_decay,
            dtype=torch.bfloat16 if self._mixed else pool.flat.dtype,
            compile=compile != "off",
        )
        smoothing = config.label_smoothing if task.right_or_wrong else 0.0
        loss = partial(task.subnet_loss, smoothing=smoothing, weights=self._weights)
        self._fused = FusedStep(supernet, step, loss=loss, teacher=task.teacher_of)
        self._pool, self._rows = pool, Rows(pool, self._fused.optimizer, len(members))
        self._members: list[_Member] = []
        for number, (member, start) in enumerate(zip(members, starts, strict=True)):
            self._rows.take(number)
            supernet.load_adapter_state(start)
            self._members.append(_Member(member, supernet))
            self._rows.keep()

    def step(self, number: int, images: Tensor, targets: Tensor, scales: Sequence[float]) -> Tensor:
        """See `Engine.step`."""
        if not self._supernet.training:  # a walk over all modules, as long as a captured step
            self._supernet.train()
        each = enumerate(zip(images.chunk(len(self._members)), targets, scales, strict=True))
        return torch.stack([self._turn(member, number, *given) for member, given in each])

    def recompute(self) -> None:
        """See `Engine.recompute`; if the members drop at random, though there was room (`check_room`), their steps are
        not captured then."""
        if self._drops:
            _log.warning("what drops at random is not computed again in a captured step: the step runs without")
            self._fused.give_up_compiling()
        self._fused.recompute(random=self._drops)

    def check_room(self, config: TrainingConfig, images: Tensor) -> None:
        """Check that activations need not be computed again if the members drop at random: a captured step cannot.

        Args:
            config: of the members.
            images: two, `(2, C, H, W)`.

        Raises:
            UnfusableError: if they have to be.
        """
        if not self._drops:
            return
        each = len(self._members)
        kept = lambda count: self.kept(images[:count].repeat(each, 1, 1, 1))  # noqa: E731
        if not fits(config, images.device, self.fixed_bytes, config.batch_size, kept):
            raise UnfusableError("what drops at random is not computed again in a captured step")

    def prove(self, images: Tensor, targets: Tensor) -> None:
        """Compute a gradient of a few images and their targets, so that a step without compilation is certain to run.

        Raises:
            UnfusableError: if it cannot be computed, with the reason.
        """
        one = self._enter(0)
        try:
            with model_randomness(self._drops, one.seed, 0, 0, images.device):
                self._fused.prove(one.subnet, images, targets)
        except (GlorasearchError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of whatever the backbone does that the fused step has no gradient for
            raise UnfusableError(f"the fused step has no gradient of this model ({first_line(error)})") from error

    def kept(self, images: Tensor) -> Kept:
        """See `Engine.kept`: of one member, since each ends its step before the next one begins; as of the largest
        subnet, since the step is the same for all."""
        own, supernet = images.chunk(len(self._members))[0], self._supernet.train()
        return kept_by(supernet, lambda: logits_of(supernet, supernet.space.largest(), own, mixed=self._mixed))

    @property
    def fixed_bytes(self) -> int:
        """See `Engine.fixed_bytes`: of one member; the rows of all have their memory before the first step."""
        return fixed_bytes(self._supernet)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """See `Engine.logits`."""
        self._supernet.eval()
        parts: list[Tensor] = []
        for number, own in enumerate(images.chunk(len(self._members))):
            one = self._enter(number)
            with one.average.active():
                parts.append(logits_of(self._supernet, one.subnet, own, mixed=self._mixed).float())
        return torch.stack(parts)

    def member_state(self, member: int) -> dict[str, Tensor]:
        """See `Engine.member_state`."""
        with self._enter(member).average.active():
            return {name: value.clone() for name, value in self._supernet.adapter_state().items()}

    def finite(self) -> Tensor:
        """See `Engine.finite`."""
        found: list[Tensor] = []
        for number in range(len(self._members)):
            with self._enter(number).average.active():
                found.append(torch.isfinite(self._pool.flat).all())
        return torch.stack(found).cpu()

    def state(self) -> dict[str, Tensor]:
        """See `Engine.state`."""
        self._note_draws()
        found = self._rows.state()
        found["draws"] = torch.tensor([list(one.draws.values()) for one in self._members], dtype=torch.int64)
        for number, one in enumerate(self._members):
            found |= {f"{number}/average/{name}": value for name, value in one.average.state().items()}
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Engine.load_state`."""
        self._rows.load_state(state)
        for number, (one, draws) in enumerate(zip(self._members, state["draws"].tolist(), strict=True)):
            one.draws = dict(zip(one.draws, draws, strict=True))
            one.average.load_state({name: state[f"{number}/average/{name}"] for name in one.average.state()})

    def warming(self) -> dict[str, int]:
        """See `Engine.warming`."""
        found: dict[str, int] = {}
        for number in range(len(self._members)):
            one = self._enter(number)
            for name, places in self._supernet.warm_ups.running(one.begun).items():
                found[name] = found.get(name, 0) + places
        return found

    def _enter(self, number: int) -> _Member:
        """Have a member's state in supernet and optimiser."""
        one = self._members[number]
        if self._rows.present != number:
            self._note_draws()
            self._rows.keep()
            self._rows.take(number)
            self._supernet.warm_ups.go_on(one.draws)
        return one

    def _note_draws(self) -> None:
        if self._rows.present is not None:
            self._members[self._rows.present].draws = self._supernet.warm_ups.draws()

    def _turn(self, member: int, number: int, images: Tensor, targets: Tensor, scale: float) -> Tensor:
        """One member's step; returns `(2,)`, loss and norm of the gradient."""
        one = self._enter(member)
        if self._weights is not None and self._class_weights is not None:
            self._weights.copy_(self._class_weights[member])
        run = partial(self._run, one, number, images, targets, scale)
        try:
            result = run()
        except (GlorasearchError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # compilation and capture fail in many ways, all of them in the first step
            if self._strict or self._proven:
                raise
            _log.warning(
                "this model cannot be compiled and captured here (%s): its step runs without", first_line(error)
            )
            self._rows.take(member)  # the step may have been done before the capture failed
            self._fused.give_up_compiling()
            result = run()
        self._proven = True
        restarted = self._supernet.warm_ups.step([one.subnet])
        if restarted:
            self._fused.optimizer.forget(restarted)
        one.average.update(number, restarted)
        return result

    def _run(self, one: _Member, number: int, images: Tensor, targets: Tensor, scale: float) -> Tensor:
        rates = {group: peak * scale for group, peak in one.peaks.items()}
        with model_randomness(self._drops, one.seed, number, 0, images.device):
            return self._fused.run([one.subnet], images, targets, rates)


class _Member:
    """What a member has besides its row."""

    def __init__(self, member: Member, supernet: Supernet) -> None:
        """`supernet` is at the member's start."""
        self.subnet, self.seed = member.subnet, member.config.seed
        self.peaks = peak_rates(member.space, member.config)
        self.average = WeightAverage(supernet, member.config.ema_decay)
        self.begun = self.draws = supernet.warm_ups.draws()
        """`WarmUps.draws` at the start, and when another member took its place."""


def check_alike(members: Sequence[Member]) -> None:
    """Check that members are of one space, and share what is constant in a captured step.

    Raises:
        UnfusableError: if not, with the difference.
    """
    first = members[0]
    for number, member in enumerate(members):
        if member.space.digest != first.space.digest:
            raise UnfusableError(f"member {number} is of another search space than member 0")
        for name in ALIKE:
            own, common = getattr(member.config, name), getattr(first.config, name)
            if own != common:
                raise UnfusableError(f"member {number} has {name} {own}, member 0 {common}")


def check_turns(members: Sequence[Member], supernet: Supernet) -> None:
    """Check that one fused step serves members that are alike; `supernet` is of their space, and `reached`.

    Args:
        members: of a stack.
        supernet: on the device of the training.

    Raises:
        UnfusableError: if it does not, with the reason.
    """
    check_covered(supernet, members[0].config)
    if supernet.read:
        raise UnfusableError(f"the backbone reads the weight of {supernet.read[0]}, which has no gradient there")
