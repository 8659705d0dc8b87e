"""One training step as a static computation with the subnet as data; on a GPU compiled and captured in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from glorasearch.fused.compiling import Captured, compile_blocks
from glorasearch.fused.gradients import settle
from glorasearch.fused.layout import CODE_WIDTH
from glorasearch.fused.merged import MergedWeights, fused_layers, static_model
from glorasearch.fused.optimizer import FlatAdamW, adamw, clip_factor
from glorasearch.fused.parts import Key
from glorasearch.fused.pool import active, active_table, pool_of
from glorasearch.recompute import recompute_blocks
from glorasearch.space import Subnet
from glorasearch.supernet import Supernet, freeze_statistics


@dataclass(frozen=True, kw_only=True, slots=True)
class StepConfig:
    """What is the same in every step."""

    paths: tuple[bool, ...] = (False,)
    """One entry per subnet of a step: whether it is distilled from the first one."""
    clip_norm: float = 1.0
    weight_decay: float = 1e-4
    dtype: torch.dtype = torch.bfloat16
    """Of frozen weights, merged weights and activations; trained parameters and their gradients keep theirs."""
    compile: bool = True
    """Compile the model and capture the step (CUDA only)."""


class FusedStep:
    """Runs training steps of a supernet; the inputs of a step are first copied into fixed buffers.

    A step has these parts, in this order:

    1. **Factors.** The drawn choices are given as a small table of codes. The factors of every layer (`Bank`) are
       computed from the storages, all layers of a shape in one launch; choices that are not drawn are zeros.
    2. **Merge.** One more launch per bank writes every layer's W in the activations' dtype from the frozen float32 W0.
    3. **Forward and backward** of the plain model, its linear layers replaced by `FusedLinear`: one matrix product
       forward, one for the gradient of the inputs. The gradient of the factors is computed according to each layer's
       row of the plan (`gradients`, `Bank.plan`), from the dense weight gradient only where that is needed.
    4. **Update.** The gradient of the factors is carried to the storages (the transpose of 1), the whole gradient is
       clipped, and AdamW updates what was drawn, on one flat buffer.

    The sequence of operations is the same for every subnet, so the step can be compiled and captured once. In float64
    on the CPU it equals the plain step of `SupernetTrainer` up to rounding.

    `run` does all of it at once. If the gradient is the mean over several ranks, `gradient` does 1 to 3 and carries the
    gradient to the storages; `move` does the rest with the mean. Each of them is captured in its own graph.
    """

    def __init__(
        self,
        supernet: Supernet,
        config: StepConfig,
        *,
        loss: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        teacher: Callable[[Tensor], Tensor],
    ) -> None:
        """`loss` takes logits, labels and, for a distilled subnet, what `teacher` makes of the first one's logits."""
        self._config, self._loss, self._teacher = config, loss, teacher
        self._pool = pool = pool_of(supernet)
        self.device = device = pool.flat.device
        self.optimizer = FlatAdamW(pool, weight_decay=config.weight_decay)
        count = len(config.paths)
        shape = (count, len(pool.layer_names), 5, CODE_WIDTH)
        self._codes = torch.zeros(shape, dtype=torch.int32, device=device)
        self._rates = torch.zeros(len(pool.segments), dtype=pool.flat.dtype, device=device)
        self._groups = tuple(dict.fromkeys(segment.group for segment in pool.segments))
        self._group_of = torch.tensor([self._groups.index(segment.group) for segment in pool.segments])
        self._table = active_table(pool.segments, device)
        self.images: Tensor | None = None
        """The buffer from which the step reads its images, `(N, C, H, W)`; filling it directly saves a copy."""
        self._labels: Tensor | None = None
        self.result = torch.zeros(2, dtype=pool.flat.dtype, device=device)
        self._stacked, self._parts = pool.stacked(pool.flat), pool.parts(pool.flat)
        self._merged = merged = MergedWeights(pool, config.dtype, training=True)
        self._leaves = [[row.detach().requires_grad_() for row in factors] for factors in merged.factors]
        self._model = static_model(supernet, fused_layers(merged, self._leaves), config.dtype, share_head=True)
        self._supernet = supernet
        self._head = list(supernet.head_parameters().values())
        self._row = torch.zeros(1 + len(pool.segments) + len(pool.flat), dtype=pool.flat.dtype, device=device)
        """Loss, drawn segments and gradient, of one rank or the mean of all."""
        self.steps_done = 0
        """Steps that have updated the weights since this object was made (counted if they are captured)."""
        self._captures = config.compile and device.type == "cuda"
        self._needed: dict[Key, list[bool]] = {}
        self._eager = False
        if self._captures:
            compile_blocks(self._model)
        self._carry, self._move, self._move_drawn = self._carry_back, self._update, self._update_drawn
        if self._captures:
            self._carry = torch.compile(self._carry, dynamic=False)
            self._move = torch.compile(self._move, dynamic=False)
            self._move_drawn = torch.compile(self._move_drawn, dynamic=False)
        self._whole = Captured(self._step, device)
        self._first = Captured(self._gradient_step, device)
        self._second = Captured(self._move_step, device)

    @property
    def peak_bytes(self) -> int:
        """Peak memory allocated on the GPU during the capture of the step, everything outside it included."""
        return max(part.peak_bytes for part in (self._whole, self._first, self._second))

    @property
    def left_out(self) -> int:
        """How many parts the last run of what is captured did without (`parts`)."""
        return self._whole.left_out + self._first.left_out

    def recompute(self, *, random: bool = False) -> None:
        """Have the blocks' activations computed again: before the first step, and not in a captured one of a model that
        drops at `random`."""
        recompute_blocks(self._model, random=random)

    def give_up_compiling(self) -> None:
        """From now on have no step compiled nor captured; after a first one that failed, whatever it has done."""
        self._captures, self._eager = False, True

    def prove(self, subnet: Subnet, images: Tensor, labels: Tensor) -> None:
        """Compute a gradient with a few images, neither compiled nor captured, and forget it; raises whatever error
        prevents it."""
        self._fill([subnet] * len(self._config.paths), images, labels)
        try:
            with torch.compiler.set_stance("force_eager"):
                self._gradient()
        finally:
            self.images = self._labels = None

    def run(self, subnets: Sequence[Subnet], images: Tensor, labels: Tensor, rates: dict[str, float]) -> Tensor:
        """One step on `images (N, C, H, W)` and their targets, of one shape and kind in every step.

        `rates` are the learning rates by group.

        Returns:
            `(2,)`: mean loss in nats and norm of the gradient before clipping, on the device; the next step does not
            overwrite it.
        """
        self._fill(subnets, images, labels)
        self._set_rates(rates)
        self._do(self._whole, self._step)
        return self.result.clone()

    def gradient(self, subnets: Sequence[Subnet], images: Tensor, labels: Tensor) -> Tensor:
        """What one rank adds to a step: its mean loss, 1 or 0 for every segment (drawn or not), and the flat gradient.

        Rows of several ranks may be averaged and passed to `move`; the next call does not overwrite them.
        """
        self._fill(subnets, images, labels)
        self._do(self._first, self._gradient_step)
        return self._row.clone()

    def move(self, mean: Tensor, rates: dict[str, float]) -> Tensor:
        """Step the optimiser with the mean of the ranks' rows; returns the same as `run`."""
        self._row.copy_(mean)
        self._set_rates(rates)
        self._do(self._second, self._move_step)
        return self.result.clone()

    def _fill(self, subnets: Sequence[Subnet], images: Tensor, labels: Tensor) -> None:
        """Copy into the fixed buffers what the forward and backward pass of a step reads."""
        if self.images is None:
            if not self._pool.valid:
                raise RuntimeError("the supernet was moved after its fused step was made")
            form = torch.channels_last if self._pool.convolves else torch.preserve_format
            self.images = images.to(self._config.dtype, copy=True, memory_format=form)
        elif images.data_ptr() != self.images.data_ptr():
            self.images.copy_(images)
        if self._labels is None:
            self._labels = labels.clone()
        else:
            self._labels.copy_(labels)
        codes = [self._pool.codes(subnet) for subnet in subnets]
        self._codes.copy_(_pinned(torch.tensor(codes, dtype=torch.int32), self.device), non_blocking=True)
        self._needed = self._merged.needed(codes) if self._captures else {}
        self._follow_mode()

    def _set_rates(self, rates: dict[str, float]) -> None:
        given = torch.tensor([rates.get(group, 0.0) for group in self._groups], dtype=self._rates.dtype)[self._group_of]
        self._rates.copy_(_pinned(given, self.device), non_blocking=True)

    def _do(self, captured: Captured, compute: Callable[[], None]) -> None:
        if not self._captures:
            with torch.compiler.set_stance("force_eager") if self._eager else nullcontext():
                compute()
            return
        try:
            captured(self._needed)
        finally:  # the first capture may fail after the step was done
            self.steps_done = self._whole.done + self._second.done

    def _follow_mode(self) -> None:
        """Take over the supernet's training or evaluation mode."""
        if self._model.training != self._supernet.training:
            self._model.train(self._supernet.training)
            freeze_statistics(self._model)

    def _step(self) -> None:
        grad, loss = self._gradient()
        norm = self._move(grad)
        self.result.copy_(torch.stack([loss, norm]))

    def _gradient_step(self) -> None:
        grad, loss = self._gradient()
        self._row.copy_(torch.cat([loss[None], self._drawn().to(grad.dtype), grad]))

    def _move_step(self) -> None:
        count = len(self._pool.segments)
        norm = self._move_drawn(self._row[1 + count :], self._row[1 : 1 + count] > 0)
        self.result.copy_(torch.stack([self._row[0], norm]))

    def _gradient(self) -> tuple[Tensor, Tensor]:
        """The flat gradient of the step's subnets and their mean loss."""
        config, flat = self._config, self._pool.flat
        assert self.images is not None
        assert self._labels is not None
        grad = torch.zeros_like(flat)
        total = torch.zeros((), dtype=flat.dtype, device=self.device)
        teacher: Tensor | None = None
        share = 1 / len(config.paths)
        for number, distilled in enumerate(config.paths):
            self._merged.fill(self._codes[number])
            with torch.autocast(self.device.type, config.dtype, enabled=config.dtype == torch.bfloat16):
                logits = self._model(self.images)
            loss = self._loss(logits, self._labels, teacher if distilled else None)
            if teacher is None and len(config.paths) > 1:
                teacher = self._teacher(logits)
            leaves = [leaf for bank in self._leaves for leaf in bank]
            found = torch.autograd.grad(loss * share, [*leaves, *self._head])
            grad = self._carry(grad, found[: len(leaves)], found[len(leaves) :], self._codes[number])
            self._carry_extras(grad, found[: len(leaves)], self._codes[number])
            total += loss.detach() * share
        return grad, total

    def _carry_back(self, grad: Tensor, raw: Sequence[Tensor], head: Sequence[Tensor], codes: Tensor) -> Tensor:
        """A flat gradient plus one subnet's, from the raw gradients of the layers' factors and those of the head."""
        found: list[Tensor] = []
        start = 0
        for index, bank in enumerate(self._pool.banks):
            rows = torch.stack(list(raw[start : start + len(bank)]))
            start += len(bank)
            settled = settle(rows, self._merged.factors[index], self._merged.plans[index], bank.shape)
            grads = bank.storage_gradients(settled, self._stacked[index], codes)
            found += [grads.get(key, torch.zeros_like(value)) for key, value in self._stacked[index].items()]
        shared = grad.new_zeros(len(grad) - sum(part.numel() for part in (*found, *head)))
        return grad + torch.cat([part.flatten() for part in (*found, shared, *head)])

    def _carry_extras(self, grad: Tensor, raw: Sequence[Tensor], codes: Tensor) -> None:
        """Add the gradients of the extras' storages to a flat gradient, by autograd."""
        own, shared = self._pool.stacked(grad), self._pool.shared(grad)
        start = 0
        for index, bank in enumerate(self._pool.banks):
            rows = raw[start : start + len(bank)]
            start += len(bank)
            if bank.extras.all:
                found = bank.extra_gradients(torch.stack(list(rows)), self._parts[index], codes)
                for key, value in found.items():
                    if key in shared[index]:
                        shared[index][key].add_(value.sum(0))
                    else:
                        own[index][key].add_(value)

    def _update(self, grad: Tensor) -> Tensor:
        """Clip the gradient and update what was drawn; returns the norm before clipping."""
        return self._update_drawn(grad, self._drawn())

    def _drawn(self) -> Tensor:
        """`(segments,)` bool: what the step's subnets draw."""
        count = len(self._pool.segments)
        return torch.stack([active(self._table, codes, count) for codes in self._codes]).any(0)

    def _update_drawn(self, grad: Tensor, drawn: Tensor) -> Tensor:
        config, state = self._config, self.optimizer
        norm, factor = clip_factor(grad, config.clip_norm)
        state.steps.copy_(state.steps + drawn)
        counts = state.steps.to(self._rates.dtype)
        adamw(
            self._pool.flat, grad * factor, state.mean, state.square, counts, self._rates, drawn, state.owner,
            config.weight_decay,
        )  # fmt: skip
        return norm


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory() if device.type == "cuda" else tensor
