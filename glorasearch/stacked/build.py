"""From members to the engine that trains them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glorasearch.config import Compile
from glorasearch.data import TrainSplit
from glorasearch.errors import BackboneError
from glorasearch.stacked.alone import OneByOne
from glorasearch.stacked.engine import Engine
from glorasearch.stacked.member import Member, supernet_of
from glorasearch.stacked.plan import Plan, plan_of
from glorasearch.stacked.side_by_side import SideBySide
from glorasearch.weights import tensor_digest

_log = logging.getLogger(__name__)
_IMAGES = 2
"""Images of a member in the comparison of the stack with each member alone."""


def make_engine(
    backbone: nn.Module,
    members: Sequence[Member],
    data: TrainSplit,
    device: torch.device,
    compile: Compile,
    side_by_side: bool | None,
) -> tuple[Engine, list[str]]:
    """The engine, and the digest of each member's adapter state at its start.

    A member's supernet is built, and let go, before the next one's.

    Raises:
        WeightStoreError: if a start belongs to another supernet.
        BackboneError: if the backbone bypasses an adapted layer.
    """
    plans: list[Plan] = []
    starts: list[str] = []
    alone: list[Tensor] = []
    seen: list[Tensor] = []
    for number, member in enumerate(members):
        images, _ = data.batch(torch.arange(_IMAGES * number, _IMAGES * (number + 1)) % len(data), "cpu")
        supernet = supernet_of(backbone, member)
        supernet.check_reached(images)
        starts.append(tensor_digest(supernet.adapter_state()))
        plans.append(plan_of(member, supernet))
        with torch.no_grad(), supernet.activate(member.subnet):
            alone.append(supernet(images))
        seen.append(images)
    if side_by_side is None:
        side_by_side = device.type != "cpu"
    if side_by_side:
        try:
            engine = SideBySide(backbone, members, plans, seen[0][:1], device, compile)
            engine.check_apart(alone, torch.cat(seen).to(device))
            return engine, starts
        except BackboneError as error:
            _log.warning("this backbone cannot be stacked, its members are trained one after the other: %s", error)
    return OneByOne(backbone, members, device), starts
