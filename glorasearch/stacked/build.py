"""From members to the engine that trains them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

import torch
from torch import Tensor

from glorasearch.config import Compile
from glorasearch.data import TrainSplit
from glorasearch.errors import BackboneError
from glorasearch.fused import UnfusableError
from glorasearch.stacked.alone import OneByOne
from glorasearch.stacked.engine import Engine
from glorasearch.stacked.member import Member, drop_path_shares
from glorasearch.stacked.plan import Plan, plan_of
from glorasearch.stacked.side_by_side import SideBySide, Trial
from glorasearch.stacked.supernets import Supernets
from glorasearch.stacked.transfer import copy_together
from glorasearch.supernet import Supernet
from glorasearch.tasks import Task
from glorasearch.training.fast_step import check_covered
from glorasearch.weights import tensor_digest

_log = logging.getLogger(__name__)
_IMAGES: Final = 2
"""Images of a member in the comparison of the stack with each member alone."""
_NOISE: Final = 0.02
"""Standard deviation of what is added to the members' starts there."""


def make_engine(
    supernets: Supernets,
    members: Sequence[Member],
    data: TrainSplit,
    device: torch.device,
    compile: Compile,
    side_by_side: bool,
    class_weights: Tensor | None = None,
    *,
    fused: bool = False,
) -> tuple[Engine, list[str]]:
    """The engine, and the digest of each member's adapter state at its start.

    `supernets` are on the backbone; `class_weights`, `(M, classes)`, weight images in the members' losses; `fused` as
    `StackedTrainer` takes it.

    Raises:
        ConfigError: if the backbone was built with another drop path than its members'.
        WeightStoreError: if a start belongs to another supernet.
        BackboneError: if the backbone bypasses an adapted layer.
    """
    backbone = supernets.backbone
    shares = drop_path_shares(backbone, members)
    task = data.task.trained_by(members[0].config.huber_delta)
    alone = partial(_one_by_one, supernets, members, data, device, shares, task, class_weights)
    if fused and _may_be_fused(members, device):
        try:
            return alone(compile=compile)
        except UnfusableError as error:
            _log.info("the step of a stack of one is not fused: %s", error)
    if side_by_side:
        looks = list(_look(supernets, members, data))
        read = {name for look in looks for name in look.read}
        try:
            if any(member.config.dropout for member in members):
                raise BackboneError("a member has dropout of hidden units, which a merged weight does not have")
            if read:
                raise BackboneError(f"it reads the weight of {min(read)}, and calls no layer that could be stacked")
            plans, trials = [look.plan for look in looks], [look.trial for look in looks]
            image = trials[0].images[:1]
            engine = SideBySide(backbone, members, plans, shares, image, device, compile, task, class_weights)
            engine.check_apart(trials)
            return engine, [look.start for look in looks]
        except BackboneError as error:
            _log.warning("the members cannot be stacked and are trained one after the other: %s", error)
    return alone(compile="off")


def _may_be_fused(members: Sequence[Member], device: torch.device) -> bool:
    """A GPU's stack of one, whose activations a captured step can compute again if memory asks for it: not with drop
    path."""
    config = members[0].config
    return len(members) == 1 and device.type != "cpu" and (not config.drop_path or config.recompute == "off")


def _one_by_one(
    supernets: Supernets,
    members: Sequence[Member],
    data: TrainSplit,
    device: torch.device,
    shares: Sequence[float],
    task: Task,
    class_weights: Tensor | None,
    *,
    compile: Compile,
) -> tuple[Engine, list[str]]:
    """Raises `UnfusableError` if steps are to be compiled and the fused step does not cover a member."""
    if next(supernets.backbone.parameters()).device != device:  # once for all members
        supernets = Supernets(copy.deepcopy(supernets.backbone).to(device))
    own = [supernets.own(member, _images(supernets, data, number)) for number, member in enumerate(members)]
    starts = [tensor_digest(supernet.adapter_state()) for supernet in own]
    if compile != "off":
        for member, supernet in zip(members, own, strict=True):
            check_covered(supernet.to(device), member.config, strict=compile == "on")
    return OneByOne(members, own, shares, device, task, class_weights, compile), starts


class _Look(NamedTuple):
    """What is known of a member from the supernet of its space."""

    start: str
    """Digest of its adapter state at its start."""
    plan: Plan
    trial: Trial
    read: tuple[str, ...]
    """`Supernet.read`"""


def _look(supernets: Supernets, members: Sequence[Member], data: TrainSplit) -> Iterator[_Look]:
    """Look at the members one after the other: of all their weights only those that they use are kept."""
    for number, member in enumerate(members):
        supernet, images = supernets.of(member.space), _images(supernets, data, number)
        supernet.check_reached(images)
        state = supernets.start(member)
        plan = plan_of(supernets.layout(member), member, state)
        yield _Look(tensor_digest(state), plan, _try(supernet, member, plan, images), supernet.read)


def _images(supernets: Supernets, data: TrainSplit, number: int) -> Tensor:
    """Two images, `(2, C, H, W)`, where the supernets are, that no other member has here if there are enough."""
    positions = torch.arange(_IMAGES * number, _IMAGES * (number + 1)) % len(data)
    images, _ = data.batch(positions, next(supernets.backbone.parameters()).device)
    return images


@torch.no_grad()
def _try(supernet: Supernet, member: Member, plan: Plan, images: Tensor) -> Trial:
    """The member's logits with other weights than its start, where most choices do nothing; spoils the supernet."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}
    for name, value in plan.values.items():
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        weights[name] = value + _NOISE * noise.to(value)
    own = supernet.adapter_state()
    copy_together([own[name] for name in weights], list(weights.values()))
    with supernet.activate(member.subnet):
        return Trial(weights, images, supernet(images))
