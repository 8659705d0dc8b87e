"""Whether a step's activations fit into memory, asked before the first step; where not, they are computed again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor, nn

from glorasearch.config import is_mixed
from glorasearch.recompute import blocks_of
from glorasearch.supernet import Supernet
from glorasearch.training.config import TrainingConfig

_log = logging.getLogger(__name__)

SHARE: Final = 0.8
"""Of the free memory of a GPU that a step may take; the rest is for what the estimate leaves out."""
_GIB: Final = 2**30


class Recomputes(Protocol):
    """What may have its activations computed again."""

    def recompute(self) -> None:
        """Do so from the next step on, which has the same numbers."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes that autograd keeps of a forward pass, parameters left out."""

    whole: int
    again: int
    """If the blocks are computed again: what is outside of them, their inputs, and the largest one."""
    blocks: int
    """How many there are."""


def kept_by(model: nn.Module, run: Callable[[], Tensor]) -> Kept:
    """What autograd keeps of `run`, which calls a model; torch's generators are as before."""
    parameters = {value.untyped_storage().data_ptr() for value in model.parameters()}
    sizes: dict[int, tuple[int, int]] = {}
    """Place in memory -> block (0 outside), and bytes."""
    inputs: dict[int, int] = {}
    inside, held = [0], list[Tensor]()

    def pack(value: Tensor) -> None:
        """Held here, so that no two have one place in memory, and not by the graph."""
        held.append(value)
        storage = value.untyped_storage()
        if storage.data_ptr() not in parameters:
            sizes.setdefault(storage.data_ptr(), (inside[-1], storage.nbytes()))

    cards = {value.device for value in model.parameters() if value.is_cuda}
    with torch.random.fork_rng(devices=cards), _watched(blocks_of(model), inside, inputs) as blocks:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            result = run()
        del result
    held.clear()
    each = [0] * (len(blocks) + 1)
    for block, size in sizes.values():
        each[block] += size
    again = each[0] + sum(inputs.values()) + max(each[1:], default=0)
    whole = sum(each)
    return Kept(whole, min(again, whole), len(blocks))


@contextmanager
def _watched(blocks: Sequence[nn.Module], inside: list[int], inputs: dict[int, int]) -> Iterator[Sequence[nn.Module]]:
    """Have the last of `inside` be the number of the block that runs, from 1, and note the bytes of inputs."""

    def enter(number: int) -> Callable[[nn.Module, tuple[object, ...]], None]:
        def hook(module: nn.Module, given: tuple[object, ...]) -> None:
            inside.append(number)
            for value in given:
                if isinstance(value, Tensor):
                    inputs[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()

        return hook

    handles = [block.register_forward_pre_hook(enter(number)) for number, block in enumerate(blocks, 1)]
    handles += [block.register_forward_hook(lambda *_: inside.pop() and None) for block in blocks]
    try:
        yield blocks
    finally:
        for handle in handles:
            handle.remove()


def fit_step(step: Recomputes, supernet: Supernet, config: TrainingConfig, images: Tensor) -> bool:
    """`choose` for the steps of a supernet in training mode, by its largest subnet; `images (n, C, H, W)` as it has."""
    mixed, largest = is_mixed(config.precision, images.device.type), supernet.space.largest()

    def forward(count: int) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed), supernet.activate(largest):
            logits: Tensor = supernet(images[:count])
        return logits

    count = config.batch_size // config.ranks
    fixed = fixed_bytes(supernet)
    return choose(config, images.device, step, fixed, count, lambda some: kept_by(supernet, lambda: forward(some)))


def fixed_bytes(supernet: Supernet) -> int:
    """Bytes of a supernet's step that no activation is.

    Gradients, moments and their temporaries are four times what is trained; merged weights and their gradients twice
    what is adapted.
    """
    trained = supernet.adapter_parameters() | supernet.head_parameters()
    adapted = sum(layer.base.weight.nbytes for layer in supernet.adapted.values())
    return 4 * sum(value.nbytes for value in trained.values()) + 2 * adapted


def choose(
    config: TrainingConfig,
    device: torch.device,
    what: Recomputes,
    fixed: int,
    count: int,
    kept: Callable[[int], Kept],
) -> bool:
    """Have activations computed again if the recipe says so, or if they do not fit; returns whether they are.

    Args:
        config: its `recompute` and `memory_gib`.
        device: of the training.
        what: takes the steps.
        fixed: bytes of a step that no activation is.
        count: images of one forward pass.
        kept: what a forward pass of so many images keeps; asked for one and, where that leaves it open, for two.
    """
    if config.recompute == "off":
        return False
    if config.recompute == "on":
        what.recompute()
        return True
    lack = _lack(config, device, fixed, count, kept)
    if lack is None:
        return False
    room = f"{lack.need / _GIB:.3g} GiB by estimate, and there are {lack.limit / _GIB:.3g}"
    if not lack.blocks:
        _log.warning(
            "a training step takes %s: this model has no repeated blocks whose activations could be computed again; "
            "set a smaller batch_size if memory runs out",
            room,
        )
        return False
    least = "" if lack.again <= lack.limit else "; that may not suffice: set a smaller batch_size if memory runs out"
    _log.warning(
        "a training step takes %s: the activations of its %d blocks are computed again in the backward pass, about a "
        "third more time and %.3g GiB; the numbers are the same (train.recompute)%s",
        room,
        lack.blocks,
        lack.again / _GIB,
        least,
    )
    what.recompute()
    return True


def fits(config: TrainingConfig, device: torch.device, fixed: int, count: int, kept: Callable[[int], Kept]) -> bool:
    """Whether a step keeps its activations by `choose`, whose arguments these are."""
    if config.recompute != "auto":
        return config.recompute == "off"
    lack = _lack(config, device, fixed, count, kept)
    return lack is None or not lack.blocks


@dataclass(frozen=True, slots=True)
class _Lack:
    """A step that does not fit: bytes."""

    need: int
    again: int
    """If the blocks are computed again."""
    limit: int
    blocks: int


def _lack(
    config: TrainingConfig, device: torch.device, fixed: int, count: int, kept: Callable[[int], Kept]
) -> _Lack | None:
    limit = memory_of(device, config.memory_gib)
    if limit is None:
        return None
    one = kept(1)
    if fixed + one.whole * count <= limit:
        return None
    two = kept(min(2, count))
    need, again = (fixed + first + (second - first) * max(0, count - 1) for first, second in (
        (one.whole, two.whole), (one.again, two.again)
    ))  # fmt: skip
    return None if need <= limit else _Lack(need, again, limit, two.blocks)


def memory_of(device: torch.device, given: float | None) -> int | None:
    """Bytes that a step may take: what is given, or a share of what is free on a GPU; None if there is no limit."""
    if given is not None:
        return int(given * _GIB)
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(SHARE * (free + unused))
