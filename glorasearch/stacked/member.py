"""What one model of a stack is, and what the members of a stack must have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glorasearch.errors import ConfigError
from glorasearch.space import BoundSpace, Subnet
from glorasearch.training.config import TrainingConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One model of a stack: what `SupernetTrainer` with `Fixed(subnet)` would train alone."""

    space: BoundSpace
    """Spaces may differ from member to member."""
    subnet: Subnet
    """Of this space."""
    config: TrainingConfig
    """Its own recipe: learning rates, decay, warm-up, smoothing, clipping, drop path, seed. All members of a stack have
    the same `steps`, `batch_size`, `precision`, `ema_decay`; records and checkpoints are as the first member says."""
    images: Tensor
    """`(n,)` positions in the training split (or in the mixed images) that it may see."""
    start: Mapping[str, Tensor] | None = None
    """Adapter state of a supernet over `space` to start from; if not given, a fresh one, drawn by `config.seed`."""


SHARED = ("steps", "batch_size", "precision", "ema_decay", "huber_delta")
"""The settings that all members of a stack share."""


def check_members(members: Sequence[Member], images: int) -> None:
    """Check that members can be trained in one step, on a set of `images` images.

    Raises:
        ConfigError: if there is no member, or their recipes or images do not fit; it names the member.
        SearchSpaceError: if a subnet is not of its member's space.
    """
    if not members:
        raise ConfigError("a stack of no members: give at least one")
    first = members[0].config
    for number, member in enumerate(members):
        member.space.check(member.subnet)
        for name in SHARED:
            own, common = getattr(member.config, name), getattr(first, name)
            if own != common:
                raise ConfigError(
                    f"member {number} has {name} {own}, member 0 {common}: members that differ in it are trained in "
                    "stacks of their own"
                )
        if member.config.ranks != 1:
            raise ConfigError(
                f"member {number} has {member.config.ranks} ranks: a member is trained in one; use "
                "TrainingConfig.for_one_subnet"
            )
        if member.config.patience:
            raise ConfigError(f"member {number} has patience: a stack trains all steps of its members")
        if not len(member.images):
            raise ConfigError(f"member {number} may see no image: give positions of at least one")
        least, most = int(member.images.min()), int(member.images.max())
        if not 0 <= least <= most < images:
            raise ConfigError(
                f"member {number} may see positions from {least} to {most}, but there are {images} images: positions "
                f"are from 0 to {images - 1}"
            )


def drop_path_shares(backbone: nn.Module, members: Sequence[Member]) -> list[float]:
    """For each member the factor on the probabilities of the backbone's drop paths.

    The backbone is built with the largest drop path of its members. If all have the same, it is taken as it is.

    Raises:
        ConfigError: if the backbone was built with another drop path.
    """
    rates = [member.config.drop_path for member in members]
    largest = max(rates)
    if min(rates) == largest:
        return [1.0] * len(rates)
    built = max((float(module.drop_prob) for module in drop_paths(backbone).values()), default=0.0)  # type: ignore[arg-type]
    if not largest / 2 < built < largest + 1e-6:
        raise ConfigError(
            f"the largest drop path of the members is {largest:g}, the backbone has {built:g}: build it with "
            f"build_backbone(..., drop_path={largest:g})"
        )
    return [rate / largest for rate in rates]


def drop_paths(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of timm that drop the residual branch of whole images, by name."""
    return {name: module for name, module in model.named_modules() if type(module).__name__ == "DropPath"}


@torch.no_grad()
def scale_drop_path(model: nn.Module, share: float) -> None:
    """Multiply the probabilities of a model's drop paths."""
    for module in drop_paths(model).values():
        module.drop_prob = float(module.drop_prob) * share  # type: ignore[arg-type, assignment]
