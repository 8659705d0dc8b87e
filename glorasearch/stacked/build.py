"""From members to the engine that trains them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from glorasearch.config import Compile
from glorasearch.data import TrainSplit
from glorasearch.errors import BackboneError
from glorasearch.stacked.alone import OneByOne
from glorasearch.stacked.engine import Engine
from glorasearch.stacked.member import Member, at_start, drop_path_shares, supernet_of
from glorasearch.stacked.plan import Plan, plan_of
from glorasearch.stacked.side_by_side import SideBySide, Trial
from glorasearch.supernet import Supernet
from glorasearch.weights import tensor_digest

_log = logging.getLogger(__name__)
_IMAGES: Final = 2
"""Images of a member in the comparison of the stack with each member alone."""
_NOISE: Final = 0.02
"""Standard deviation of what is added to the members' starts there."""


def make_engine(
    backbone: nn.Module,
    members: Sequence[Member],
    data: TrainSplit,
    device: torch.device,
    compile: Compile,
    side_by_side: bool,
    class_weights: Tensor | None = None,
) -> tuple[Engine, list[str]]:
    """The engine, and the digest of each member's adapter state at its start.

    `class_weights`, `(M, classes)`, weight images in the members' losses.

    Raises:
        ConfigError: if the backbone was built with another drop path than its members'.
        WeightStoreError: if a start belongs to another supernet.
        BackboneError: if the backbone bypasses an adapted layer.
    """
    shares = drop_path_shares(backbone, members)
    task = data.task.trained_by(members[0].config.huber_delta)
    if side_by_side:
        plans: list[Plan] = []
        starts: list[str] = []
        trials: list[Trial] = []
        read: set[str] = set()
        for member, supernet, images in _supernets(backbone, members, data, again=True):
            starts.append(tensor_digest(supernet.adapter_state()))
            plans.append(plan_of(member, supernet))
            trials.append(_try(supernet, member, plans[-1], images))
            read |= set(supernet.read)
        try:
            if any(member.config.dropout for member in members):
                raise BackboneError("a member has dropout of hidden units, which a merged weight does not have")
            if read:
                raise BackboneError(f"it reads the weight of {min(read)}, and calls no layer that could be stacked")
            image = trials[0].images[:1]
            engine = SideBySide(backbone, members, plans, shares, image, device, compile, task, class_weights)
            engine.check_apart(trials)
            return engine, starts
        except BackboneError as error:
            _log.warning("the members cannot be stacked and are trained one after the other: %s", error)
    if next(backbone.parameters()).device != device:  # once for all members
        backbone = copy.deepcopy(backbone).to(device)
    supernets = [supernet for _, supernet, _ in _supernets(backbone, members, data, again=False)]
    starts = [tensor_digest(supernet.adapter_state()) for supernet in supernets]
    return OneByOne(members, supernets, shares, device, task, class_weights), starts


def _supernets(
    backbone: nn.Module, members: Sequence[Member], data: TrainSplit, *, again: bool
) -> Iterator[tuple[Member, Supernet, Tensor]]:
    """Each member, its supernet at its start, and two images that no other member has here, where there are enough.

    With `again`, members of one space have the same supernet, one after the other: building it takes longest.
    """
    home = next(backbone.parameters()).device
    known: dict[str, Supernet] = {}
    for number, member in enumerate(members):
        positions = torch.arange(_IMAGES * number, _IMAGES * (number + 1)) % len(data)
        images, _ = data.batch(positions, home)
        first = known.get(member.space.digest)
        if first is None:
            supernet = supernet_of(backbone, member)
            supernet.check_reached(images)  # of the others: the same layers in the same model
            known[member.space.digest] = supernet
        elif again:
            first.restart(member.config.seed)
            supernet = at_start(first, member)
        else:
            supernet = supernet_of(backbone, member)
        yield member, supernet, images


@torch.no_grad()
def _try(supernet: Supernet, member: Member, plan: Plan, images: Tensor) -> Trial:
    """The member's logits with other weights than its start, where most choices do nothing; spoils the supernet."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}
    for name, value in plan.values.items():
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        weights[name] = value + _NOISE * noise.to(value)
    supernet.load_adapter_state(supernet.adapter_state() | weights)
    with supernet.activate(member.subnet):
        return Trial(weights, images, supernet(images))
