"""Activations that are not kept for the backward pass but computed again there, block by block (Chen et al. 2016).

A block keeps its inputs alone. All is computed as before, from the same numbers, so gradients have the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Again = Callable[[], AbstractContextManager[Any]]
"""What a block is computed in the second time."""


def block_stacks(model: nn.Module, prefix: str = "") -> dict[str, nn.Module]:
    """The outermost lists or sequences of several modules of one class that have children, by name."""
    found: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        path = f"{prefix}{name}"
        members = list(child.children())
        repeated = (
            isinstance(child, (nn.ModuleList, nn.Sequential))
            and len(members) > 1
            and len({type(member) for member in members}) == 1
            and not isinstance(members[0], (nn.ModuleList, nn.Sequential))
            and any(True for _ in members[0].children())
        )
        inner = block_stacks(child, f"{path}.")
        found |= inner if inner or not repeated else {path: child}
    return found


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a model; none of a model that has no stack of equal ones."""
    return [block for stack in block_stacks(model).values() for block in stack.children()]


@contextmanager
def recomputing(model: nn.Module, again: Again = nullcontext, *, random: bool = False) -> Iterator[None]:
    """Have the blocks of what runs inside the `with` computed again in its backward pass, which may come later.

    Args:
        model: any; it is as before at the end.
        again: what a block is computed in the second time, where that is not the state of the model any more.
        random: the blocks draw from torch's generators, which are then set back for the second time.
    """
    before: list[tuple[nn.Module, dict[str, Any]]] = []
    for block in blocks_of(model):
        before.append((block, {"forward": block.__dict__["forward"]} if "forward" in block.__dict__ else {}))
        block.__dict__["forward"] = _Twice(block.forward, again, random)
    try:
        yield
    finally:
        for block, own in before:
            del block.__dict__["forward"]
            block.__dict__.update(own)


def recompute_blocks(model: nn.Module, *, random: bool = False) -> int:
    """Have the blocks of a model computed again from now on, compiled or not; returns how many there are.

    Unless the blocks draw at `random`, the generators, of which a CUDA graph allows no reading, are left alone. The
    blocks go into modules of another name.
    """
    count = 0
    for stack in block_stacks(model).values():
        for name, block in list(stack.named_children()):
            setattr(stack, name, _Recomputed(block, random))
            count += 1
    return count


class _Twice:
    """A forward pass whose activations are not kept."""

    def __init__(self, forward: Callable[..., Any], again: Again, random: bool) -> None:
        self._forward, self._again, self._random = forward, again, random

    def __call__(self, *given: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*given, **named)
        return checkpoint(
            self._forward,
            *given,
            use_reentrant=False,
            preserve_rng_state=self._random,
            context_fn=lambda: (nullcontext(), self._again()),
            **named,
        )


class _Recomputed(nn.Module):
    """A block whose activations are not kept; it is compiled without what is around it."""

    def __init__(self, block: nn.Module, random: bool) -> None:
        super().__init__()
        self.block, self._random = block, random

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, *given: Any, **named: Any) -> Any:
        return _Twice(self.block, nullcontext, random=self._random)(*given, **named)

    def compile(self, *given: Any, **named: Any) -> None:
        self.block.compile(*given, **named)

    def __getattr__(self, name: str) -> Any:
        """What the model around reads of the block."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)
