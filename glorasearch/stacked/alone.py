"""The members of a stack one after the other, each in its own supernet: for CPUs, and backbones that cannot be
stacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from glorasearch.config import is_mixed
from glorasearch.space import Subnet
from glorasearch.stacked.engine import Engine
from glorasearch.stacked.member import Member, scale_drop_path
from glorasearch.supernet import Supernet
from glorasearch.tasks import Task
from glorasearch.training.average import WeightAverage
from glorasearch.training.memory import Kept, fixed_bytes, kept_by
from glorasearch.training.optimizer import SupernetOptimizer, peak_rates
from glorasearch.training.plain_step import PlainStep
from glorasearch.training.sampling import Fixed


class OneByOne(Engine):
    """In every step each member takes the step that `SupernetTrainer` would take."""

    kind = "one by one"

    def __init__(
        self,
        members: Sequence[Member],
        supernets: Sequence[Supernet],
        shares: Sequence[float],
        device: torch.device,
        task: Task,
        class_weights: Tensor | None = None,
    ) -> None:
        """`supernets` are those of the members at their start, `shares` the factors on their drop paths, and `task` has
        their losses.

        `class_weights`, `(M, classes)`, weight images in their losses.
        """
        weights = [None] * len(members) if class_weights is None else list(class_weights.to(device))
        each = zip(members, supernets, shares, weights, strict=True)
        self._members = [_Alone(member, supernet, share, device, task, own) for member, supernet, share, own in each]

    def step(self, number: int, images: Tensor, targets: Tensor, scales: Sequence[float]) -> Tensor:
        """See `Engine.step`."""
        batches = zip(self._members, images.chunk(len(self._members)), targets, scales, strict=True)
        return torch.stack([one.step(number, own, wanted, scale) for one, own, wanted, scale in batches])

    def recompute(self) -> None:
        """See `Engine.recompute`."""
        for one in self._members:
            one.steps.recompute()

    def kept(self, images: Tensor) -> Kept:
        """See `Engine.kept`: of one member, since each ends its step before the next one begins."""
        one, own = self._members[0], images.chunk(len(self._members))[0]
        one.supernet.train()
        return kept_by(one.supernet, lambda: one.forward(own))

    @property
    def fixed_bytes(self) -> int:
        """See `Engine.fixed_bytes`."""
        return fixed_bytes(self._members[0].supernet)

    def logits(self, images: Tensor) -> Tensor:
        """See `Engine.logits`."""
        parts = zip(self._members, images.chunk(len(self._members)), strict=True)
        return torch.stack([one.logits(own) for one, own in parts])

    def member_state(self, member: int) -> dict[str, Tensor]:
        """See `Engine.member_state`."""
        one = self._members[member]
        with one.average.active():
            return {name: value.clone() for name, value in one.supernet.adapter_state().items()}

    def finite(self) -> Tensor:
        """See `Engine.finite`."""
        states = [self.member_state(number).values() for number in range(len(self._members))]
        return torch.tensor([all(bool(torch.isfinite(value).all()) for value in state) for state in states])

    def state(self) -> dict[str, Tensor]:
        """See `Engine.state`."""
        found: dict[str, Tensor] = {}
        for number, one in enumerate(self._members):
            found |= {f"{number}/weights/{name}": value for name, value in one.supernet.adapter_state().items()}
            found |= {f"{number}/optimizer/{name}": value for name, value in one.steps.state().items()}
            found |= {f"{number}/average/{name}": value for name, value in one.average.state().items()}
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Engine.load_state`."""
        for number, one in enumerate(self._members):
            own = {
                name.removeprefix(f"{number}/"): value for name, value in state.items() if name.startswith(f"{number}/")
            }
            one.supernet.load_adapter_state(_under("weights/", own))
            one.steps.load_state(_under("optimizer/", own))
            one.average.load_state(_under("average/", own))

    def warming(self) -> dict[str, int]:
        """See `Engine.warming`."""
        found: dict[str, int] = {}
        for one in self._members:
            for name, places in one.supernet.warm_ups.running(one.draws).items():
                found[name] = found.get(name, 0) + places
        return found


class _Alone:
    """One member with its supernet and its optimiser."""

    def __init__(
        self,
        member: Member,
        supernet: Supernet,
        share: float,
        device: torch.device,
        task: Task,
        weights: Tensor | None,
    ) -> None:
        config, self._subnet = member.config, member.subnet
        self.supernet = supernet.to(device)
        self.supernet.set_dropout(config.dropout)
        scale_drop_path(self.supernet, share)
        self.draws = self.supernet.warm_ups.draws()
        self.average = WeightAverage(self.supernet, config.ema_decay)
        self._mixed = is_mixed(config.precision, device.type)
        self._sampled = Fixed(member.subnet).sample(0)
        self.steps = PlainStep(
            self.supernet,
            SupernetOptimizer(self.supernet, peak_rates(member.space, config), weight_decay=config.weight_decay),
            mixed=self._mixed,
            label_smoothing=config.label_smoothing if task.right_or_wrong else 0.0,
            clip_norm=config.clip_norm,
            seed=config.seed,
            class_weights=weights,
            task=task,
        )

    def step(self, number: int, images: Tensor, targets: Tensor, scale: float) -> Tensor:
        """`(2,)`: loss and norm of the gradient."""
        if not self.supernet.training:  # a walk over all modules, as long as a captured step
            self.supernet.train()
        result = self.steps.run(number, self._sampled, images, targets, scale)
        restarted = self.supernet.warm_ups.step([self._subnet])
        if restarted:
            self.steps.forget(restarted)
        self.average.update(number, restarted)
        return result

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """`(n, classes)` float32."""
        self.supernet.eval()
        with self.average.active():
            return self.forward(images).float()

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(n, classes)` in the model's present mode."""
        return logits_of(self.supernet, self._subnet, images, mixed=self._mixed)


def logits_of(supernet: Supernet, subnet: Subnet, images: Tensor, *, mixed: bool) -> Tensor:
    """A subnet's logits `(n, classes)` of `images (n, C, H, W)`; `mixed` under bfloat16 autocast.

    Raises:
        SearchSpaceError: if the subnet is not of the supernet's space.
    """
    with supernet.activate(subnet), torch.autocast(images.device.type, torch.bfloat16, enabled=mixed):
        logits: Tensor = supernet(images)
    return logits


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
