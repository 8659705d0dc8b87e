"""AdamW over the flat buffer of a stack, each member with its own rates, decay and clipping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from glorasearch.stacked.member import Member
from glorasearch.stacked.plan import Plan
from glorasearch.stacked.store import Store

BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8
"""Those of `torch.optim.AdamW`, as `SupernetOptimizer` has them."""


class StackedOptimizer:
    """Steps every member as `SupernetOptimizer` does.

    Rates, decay and bias corrections are one number a segment; `table` computes them for a step on the CPU, and
    `update` needs nothing else from it: it can be captured in a CUDA graph.
    """

    def __init__(self, store: Store, members: Sequence[Member], plans: Sequence[Plan]) -> None:
        self._store = store
        theta = store.theta
        self.first, self.second = torch.zeros_like(theta), torch.zeros_like(theta)
        self.counts = torch.zeros(len(store.segments), dtype=torch.int64)
        """How often each segment was stepped since its moments were dropped."""
        self._peaks = torch.tensor([plans[m].peaks[name] for m, name in store.segments], dtype=torch.float64)
        self._members = torch.tensor([m for m, _ in store.segments])
        self._decay = torch.tensor([member.config.weight_decay for member in members], dtype=torch.float64)
        self._index = {segment: number for number, segment in enumerate(store.segments)}
        self._segment_of = store.segment_numbers().to(theta.device)
        self._member_of_segment = self._members.to(theta.device)
        limits = [member.config.clip_norm or float("inf") for member in members]
        self._limits = torch.tensor(limits, dtype=theta.dtype, device=theta.device)

    def table(self, scales: Sequence[float]) -> Tensor:
        """`(3, S)` on the CPU, of the next step of each segment; counts it.

        Its rows: the factor that decay leaves of a parameter, the rate over the first moment's bias correction, and the
        root of the second's.
        """
        self.counts += 1
        rate = self._peaks * torch.tensor(scales, dtype=torch.float64)[self._members]
        kept = 1 - rate * self._decay[self._members]
        one, two = (1 - beta ** self.counts.double() for beta in BETAS)
        return torch.stack([kept, rate / one, two.sqrt()]).to(self._store.dtype)

    @torch.no_grad()
    def update(self, gradient: Tensor, table: Tensor) -> Tensor:
        """One step of all members with a gradient `(P,)`; returns each member's norm before clipping, `(M,)`."""
        store = self._store
        norms = torch.stack(torch._foreach_norm(store.split(gradient)))
        squares = torch.zeros_like(self._limits).index_add(0, self._member_of_segment, norms.square())
        total = squares.sqrt()
        factor = (self._limits / (total + 1e-6)).clamp(max=1)
        columns = torch.cat([table, factor[self._member_of_segment][None]])
        kept, rate, root, clip = columns.index_select(1, self._segment_of)
        gradient = gradient * clip
        self.first.lerp_(gradient, 1 - BETAS[0])
        self.second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        step = self.second.sqrt().div_(root).add_(EPSILON)
        store.theta.mul_(kept).sub_(step.reciprocal_().mul_(self.first).mul_(rate))
        return total

    @torch.no_grad()
    def forget(self, member: int, names: Iterable[str]) -> None:
        """Drop the moments of some tensors of a member, which have been initialised again."""
        for name in names:
            for moments in (self.first, self.second):
                moments[self._store.place(member, name)] = 0
            self.counts[self._index[member, name]] = 0

    def state(self) -> dict[str, Tensor]:
        """Moments and counts."""
        return {"first": self.first, "second": self.second, "counts": self.counts}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a copy of a result of `state`."""
        for name, own in self.state().items():
            own.copy_(state[name])
