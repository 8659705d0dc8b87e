"""From members to the engine that trains them."""

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import torch
from torch import Tensor

from glorasearch.config import Compile
from glorasearch.data import TrainSplit
from glorasearch.errors import BackboneError
from glorasearch.fused import UnfusableError
from glorasearch.stacked.alone import OneByOne
from glorasearch.stacked.engine import Engine
from glorasearch.stacked.in_turns import InTurns, check_alike, check_turns
from glorasearch.stacked.member import Member, drop_path_shares
from glorasearch.stacked.plan import Plan, plan_of
from glorasearch.stacked.side_by_side import SideBySide, Trial
from glorasearch.stacked.supernets import Supernets
from glorasearch.stacked.transfer import copy_together
from glorasearch.supernet import Supernet
from glorasearch.tasks import Task
from glorasearch.weights import tensor_digest

_log = logging.getLogger(__name__)
_IMAGES: Final = 2
"""Images of a member in the comparison of the stack with each member alone."""
_NOISE: Final = 0.02
"""Standard deviation of what is added to the members' starts there."""
FILLS: Final = 5e11
"""Multiply-adds of a member's forward pass from which its step alone fills a card, so that members take turns.

Two points were measured, both on an H200: side by side a member-step of a ViT-B/16 with 64 images (1.1e12) takes
27.7 ms, and a supernet's fused step 17.8; on the quickstart's backbone with 64 (7e8) 16 members take 2.1 times as
long as one. Where between them the one way overtakes the other is not known; a ViT-Ti/16 with 64 has 8e10."""
WORTH: Final = 2_000
"""Steps of all members from which compiling theirs is to pay: that takes some 20 s, a step of a ViT-B/16 10 ms less."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """What an engine is made of."""

    supernets: Supernets
    """On the members' backbone."""
    members: Sequence[Member]
    data: TrainSplit
    device: torch.device
    compile: Compile
    class_weights: Tensor | None = None
    """`(M, classes)`, of images in the members' losses."""

    @cached_property
    def shares(self) -> list[float]:
        """For each member the factor on the probabilities of the backbone's drop paths."""
        return drop_path_shares(self.supernets.backbone, self.members)

    @property
    def task(self) -> Task:
        """Has the members' losses."""
        return self.data.task.trained_by(self.members[0].config.huber_delta)


Made = tuple[Engine, list[str]]
"""An engine, and the digest of each member's adapter state at its start."""


def make_engine(order: Order, *, side_by_side: bool | None, in_turns: bool | None) -> Made:
    """The engine; which one as `StackedTrainer` takes it.

    Raises:
        ConfigError: if the backbone was built with another drop path than its members'.
        WeightStoreError: if a start belongs to another supernet.
        BackboneError: if the backbone bypasses an adapted layer.
    """
    if in_turns is None:
        in_turns = side_by_side is None and _fills(order)
    if side_by_side is None:
        side_by_side = order.device.type != "cpu"
    if in_turns:
        try:
            return _in_turns(order)
        except UnfusableError as error:
            _log.info("the members do not take turns in one fused step: %s", error)
        if order.device.type == "cuda":
            gc.collect()  # a step that was refused is in a cycle, and memory is what it was refused for
    if side_by_side:
        looks = list(_look(order))
        try:
            return _side_by_side(order, looks)
        except BackboneError as error:
            _log.warning("the members cannot be stacked and are trained one after the other: %s", error)
    return _one_by_one(order)


def takes_turns(order: Order) -> bool:
    """Whether members take turns where nobody says how: on a GPU that one's step fills, if they are of one space that
    the fused step covers, and have steps enough (`FILLS`, `WORTH`)."""
    if not _fills(order):
        return False
    try:
        check_alike(order.members)
        _check(order, order.supernets.of(order.members[0].space))
    except UnfusableError:
        return False
    return True


def _fills(order: Order) -> bool:
    recipes = [member.config for member in order.members]
    if order.device.type != "cuda" or order.compile == "off" or sum(recipe.steps for recipe in recipes) < WORTH:
        return False
    return order.supernets.multiply_adds * recipes[0].batch_size >= FILLS


def _check(order: Order, supernet: Supernet) -> None:
    """Raises `UnfusableError` if one fused step of this supernet does not serve all members."""
    like = next(supernet.parameters())
    supernet.check_reached(_images(order, 0).to(like.device))
    check_turns(order.members, supernet)


def _in_turns(order: Order) -> Made:
    """Raises `UnfusableError` if one fused step does not serve all members."""
    supernets, members, device = order.supernets, order.members, order.device
    check_alike(members)
    supernet = Supernet(supernets.backbone, members[0].space).eval().to(device)
    _check(order, supernet)
    starts = (supernets.start(member) for member in members)
    engine = InTurns(members, supernet, starts, order.task, order.compile, order.class_weights)
    images, targets = (value.to(device) for value in _batch(order, 0))
    engine.check_room(members[0].config, images)
    engine.prove(images, targets)
    return engine, [tensor_digest(engine.member_state(number)) for number in range(len(members))]


def _side_by_side(order: Order, looks: Sequence[_Look]) -> Made:
    """Raises `BackboneError` if the backbone cannot be stacked."""
    members = order.members
    read = {name for look in looks for name in look.read}
    if any(member.config.dropout for member in members):
        raise BackboneError("a member has dropout of hidden units, which a merged weight does not have")
    if read:
        raise BackboneError(f"it reads the weight of {min(read)}, and calls no layer that could be stacked")
    plans, trials = [look.plan for look in looks], [look.trial for look in looks]
    engine = SideBySide(
        order.supernets.backbone, members, plans, order.shares, trials[0].images[:1], order.device, order.compile,
        order.task, order.class_weights,
    )  # fmt: skip
    engine.check_apart(trials)
    return engine, [look.start for look in looks]


def _one_by_one(order: Order) -> Made:
    supernets, device = order.supernets, order.device
    if next(supernets.backbone.parameters()).device != device:  # once for all members
        supernets = Supernets(copy.deepcopy(supernets.backbone).to(device))
    own = [supernets.own(member, _images(order, number)) for number, member in enumerate(order.members)]
    starts = [tensor_digest(supernet.adapter_state()) for supernet in own]
    return OneByOne(order.members, own, order.shares, device, order.task, order.class_weights), starts


class _Look(NamedTuple):
    """What is known of a member from the supernet of its space."""

    start: str
    """Digest of its adapter state at its start."""
    plan: Plan
    trial: Trial
    read: tuple[str, ...]
    """`Supernet.read`"""


def _look(order: Order) -> Iterator[_Look]:
    """Look at the members one after the other: of all their weights only those that they use are kept."""
    supernets = order.supernets
    for number, member in enumerate(order.members):
        supernet, images = supernets.of(member.space), _images(order, number)
        supernet.check_reached(images)
        state = supernets.start(member)
        plan = plan_of(supernets.layout(member), member, state)
        yield _Look(tensor_digest(state), plan, _try(supernet, member, plan, images), supernet.read)


def _images(order: Order, number: int) -> Tensor:
    """Two images, `(2, C, H, W)`, where the backbone is, that no other member has here if there are enough."""
    return _batch(order, number)[0]


def _batch(order: Order, number: int) -> tuple[Tensor, Tensor]:
    """The same with their targets."""
    positions = torch.arange(_IMAGES * number, _IMAGES * (number + 1)) % len(order.data)
    return order.data.batch(positions, next(order.supernets.backbone.parameters()).device)


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
