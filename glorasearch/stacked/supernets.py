"""The supernets that members of stacks are read off: one a space, for all stacks on a backbone."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from glorasearch.adapters import frozen_tensors
from glorasearch.data import InputSpec
from glorasearch.space import BoundSpace, Subnet
from glorasearch.stacked.member import Member
from glorasearch.stacked.plan import Layout, layout_of
from glorasearch.supernet import Supernet
from glorasearch.weights import tensor_digest


class Supernets:
    """A supernet of each space, in evaluation mode; its weights are whatever the last one who used it left there.

    Building one takes longest of all that a member needs before its first step: whoever trains several stacks on a
    backbone keeps this between them.
    """

    def __init__(self, backbone: nn.Module) -> None:
        """`backbone` is frozen, and its module tree stays as it is."""
        self.backbone = backbone
        self._known: dict[str, Supernet] = {}
        self._reached: set[str] = set()
        self._layouts: dict[tuple[str, Subnet], Layout] = {}
        self.kept: dict[tuple[str, Subnet, bool], int] = {}
        """What `memory.member_bytes` has counted: digest of the space, subnet, mixed precision → bytes an image."""

    @classmethod
    def on(cls, backbone: nn.Module | Supernets) -> Supernets:
        """Those on a backbone, or the given ones."""
        return backbone if isinstance(backbone, Supernets) else cls(backbone)

    @cached_property
    def backbone_digest(self) -> str:
        """`tensor_digest` of what is frozen of the backbone."""
        return tensor_digest(frozen_tensors(self.backbone))

    @cached_property
    def multiply_adds(self) -> float:
        """Of the products in the backbone's forward pass of one image."""
        spec, like = InputSpec.from_backbone(self.backbone), next(self.backbone.parameters())
        image = torch.zeros(1, spec.channels, spec.height, spec.width, dtype=like.dtype, device=like.device)
        training = [module for module in self.backbone.modules() if module.training]
        self.backbone.eval()
        try:  # attention as plain products: not all of its kernels are counted
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                self.backbone(image)
        finally:
            for module in training:
                module.training = True
        return float(counter.get_total_flops()) / 2

    def of(self, space: BoundSpace) -> Supernet:
        """The supernet of a space.

        Raises:
            SearchSpaceError: if the space does not fit the backbone's layers.
        """
        if space.digest not in self._known:
            self._known[space.digest] = Supernet(self.backbone, space).eval()
        return self._known[space.digest]

    def layout(self, member: Member) -> Layout:
        """What the member has in common with all others of its subnet."""
        key = member.space.digest, member.subnet
        if key not in self._layouts:
            self._layouts[key] = layout_of(member.space, member.subnet, self.of(member.space))
        return self._layouts[key]

    def start(self, member: Member) -> dict[str, Tensor]:
        """The adapter state at the member's start, on the CPU; tensors that it was given may be among them.

        Raises:
            WeightStoreError: if its start belongs to another supernet.
        """
        supernet = self.of(member.space)
        if member.start is None:
            return supernet.start_state(member.config.seed)
        supernet.check_state(member.start)
        own = supernet.adapter_state()
        return {name: member.start[name].detach().to("cpu", value.dtype) for name, value in own.items()}

    def own(self, member: Member, images: Tensor) -> Supernet:
        """A supernet at the member's start that nobody else has; images `(n, C, H, W)` as for `check_reached`.

        Raises:
            WeightStoreError: if its start belongs to another supernet.
            BackboneError: if the backbone bypasses an adapted layer.
        """
        supernet = Supernet(self.backbone, member.space, seed=member.config.seed).eval()
        if member.start is not None:
            supernet.load_adapter_state(member.start)
        if member.space.digest not in self._reached:  # of other members: the same layers in the same model
            supernet.check_reached(images)
            self._reached.add(member.space.digest)
        return supernet
