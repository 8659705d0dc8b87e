"""How many members fit side by side on a device: an estimate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from glorasearch.config import is_mixed
from glorasearch.data import InputSpec
from glorasearch.errors import BackboneError
from glorasearch.stacked.member import Member
from glorasearch.stacked.plan import plan_of
from glorasearch.stacked.supernets import Supernets
from glorasearch.supernet import Supernet
from glorasearch.training.memory import kept_by

LARGEST: Final = 32
"""Members of a stack, however much memory there is: a step's time per member falls by 4 % from 32 to 64."""
SHARE: Final = 0.7
"""Of the free memory that a stack may take; the rest is for what the estimate leaves out."""
_PROBED: Final = 3
"""Members whose needs are estimated; the largest counts."""


def stack_size(backbone: nn.Module | Supernets, members: Sequence[Member], device: torch.device | str = "cpu") -> int:
    """How many of these members to train side by side: as many as fit into the free memory of a GPU, at least one.

    One on a CPU, where more images at once are no faster. `backbone` as for `StackedTrainer`.
    """
    target = torch.device(device)
    if target.type != "cuda" or len(members) < 2:
        return 1
    free, _ = torch.cuda.mem_get_info(target)
    supernets = Supernets.on(backbone)
    each = max(member_bytes(supernets, member, target.type) for member in members[:_PROBED])
    return max(1, min(len(members), LARGEST, int(SHARE * free / each)))


def member_bytes(supernets: Supernets, member: Member, device: str = "cuda") -> int:
    """Memory that a member needs on a kind of device in a step: what a backward pass keeps, weights and moments.

    What is kept is counted in forward passes of one and two images, on the backbone's own device, once for all
    members of a subnet.
    """
    supernet, mixed = supernets.of(member.space), is_mixed(member.config.precision, device)
    key = member.space.digest, member.subnet, mixed
    if key not in supernets.kept:
        spec = InputSpec.from_backbone(supernets.backbone)
        one, two = (_kept(supernet, member, spec, images, mixed) for images in (1, 2))
        supernets.kept[key] = two - one
    plan = plan_of(supernets.layout(member), member, supernets.start(member))
    used = sum(value.numel() for value in plan.values.values())
    item = next(supernets.backbone.parameters()).element_size()
    # Parameters, moments, gradient and the temporaries of the update; merged weights, cast weights, their gradients.
    weights = sum(layer.base.weight.numel() for layer in supernet.adapted.values())
    return supernets.kept[key] * member.config.batch_size + 10 * used * item + 3 * weights * item


def _kept(supernet: Supernet, member: Member, spec: InputSpec, count: int, mixed: bool) -> int:
    """Bytes that autograd keeps of a forward pass, parameters left out."""
    like = next(supernet.parameters())
    images = torch.zeros(count, spec.channels, spec.height, spec.width, dtype=like.dtype, device=like.device)

    def run() -> Tensor:
        with torch.autocast(like.device.type, torch.bfloat16, enabled=mixed), supernet.activate(member.subnet):
            logits: Tensor = supernet(images)
        if not logits.requires_grad:
            raise BackboneError("a forward pass has no gradient for anything that is trained")
        return logits

    return kept_by(supernet, run).whole
