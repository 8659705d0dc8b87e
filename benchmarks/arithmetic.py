"""The useful arithmetic of a step or a forward pass of a vision transformer, in FLOP: a product and a sum count as two.

What has to be computed whatever the implementation, so nothing that is computed again: products of linear layers, the
two products of attention forward and four backward, patches and head. Softmax, norms, activations, and what a merge or
the optimiser does are left out: they are bounded by memory, not by arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from glorasearch.fused import MergedWeights, pool_of
from glorasearch.fused.layout import DENSE
from glorasearch.space import Subnet
from glorasearch.supernet import Supernet


@dataclass(frozen=True)
class Work:
    """FLOP for one image."""

    patches: int
    """Of the patch embedding, forward."""
    linear: int
    """Of the linear layers of all blocks, forward; as much again for the gradient of their inputs or weights."""
    first: int
    """What of it is the first layer, whose inputs need no gradient unless the patch embedding is trained."""
    attention: int
    """Of attention, forward; twice as much backward."""
    head: int
    tokens: int
    sizes: tuple[tuple[int, int], ...]
    """Out and in of the blocks' linear layers."""

    @property
    def forward(self) -> int:
        """A plain forward pass."""
        return self.patches + self.linear + self.attention + self.head

    @property
    def biases(self) -> int:
        """A step that trains biases and head: forward, the gradients of all inputs, and the head's weight."""
        return self.forward + self.linear - self.first + 2 * self.attention + 2 * self.head

    @property
    def full(self) -> int:
        """A step that trains everything."""
        return 3 * (self.linear + self.attention + self.head) + 2 * self.patches

    def lora(self, rank: int) -> int:
        """A step of LoRA on all linear layers of the blocks, computed beside them: three times the thin products, less
        the gradient of the first one's inputs."""
        thin = sum(2 * self.tokens * rank * (out + into) for out, into in self.sizes)
        return self.biases + 3 * thin - 2 * self.tokens * rank * self.sizes[0][1]


def work_of(model: Any) -> Work:
    """Of one of timm's vision transformers, from its dimensions.

    Raises:
        ValueError: if it is another kind of model.
    """
    if not hasattr(model, "blocks") or not hasattr(model, "patch_embed") or not hasattr(model.blocks[0], "attn"):
        raise ValueError("arithmetic is counted for vision transformers only")
    weight = model.patch_embed.proj.weight
    patches, tokens = int(model.patch_embed.num_patches), int(model.pos_embed.shape[1])
    modules = [module for block in model.blocks for module in block.modules()]
    sizes = [(module.out_features, module.in_features) for module in modules if isinstance(module, nn.Linear)]
    attention = len(model.blocks) * 4 * tokens * tokens * int(model.embed_dim)
    linear = sum(2 * tokens * out * into for out, into in sizes)
    first = 2 * tokens * sizes[0][0] * sizes[0][1]
    head = 2 * model.head.weight.numel() if isinstance(model.head, nn.Linear) else 0
    return Work(2 * patches * weight.numel(), linear, first, attention, head, tokens, tuple(sizes))


@torch.no_grad()
def dense_elements(supernet: Supernet, subnets: Iterable[Subnet]) -> float:
    """Elements of weights whose dense gradient a subnet's choices need, the mean over subnets (`Bank.plan`)."""
    pool = pool_of(supernet)
    merged = MergedWeights(pool, torch.bfloat16, training=True)
    found = []
    for subnet in subnets:
        merged.fill(torch.tensor(pool.codes(subnet), dtype=torch.int32, device=pool.flat.device))
        found.append(
            sum(
                int((plan[:, DENSE] != 0).sum()) * bank.shape.out_features * bank.shape.in_features
                for bank, plan in zip(merged.banks, merged.plans, strict=True)
            )
        )
    return sum(found) / len(found)


def step_flops(supernet: Supernet, subnets: Iterable[Subnet], batch: int) -> float:
    """Useful arithmetic of a step, the mean over subnets: that of the floor, and the dense gradients they need."""
    work = work_of(supernet.model)
    return batch * (work.biases + 2 * work.tokens * dense_elements(supernet, subnets))
