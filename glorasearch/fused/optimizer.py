"""AdamW on one flat buffer, of which a step updates only the parameters that its subnets drew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from glorasearch.errors import WeightStoreError
from glorasearch.fused.pool import Pool

BETAS = 0.9, 0.999
EPSILON = 1e-8


class FlatAdamW:
    """AdamW (arXiv 1711.05101) over a pool, in a handful of launches whatever the number of parameters.

    It is equivalent to `training.optimizer.SupernetOptimizer`: a parameter that was not drawn keeps its value and its
    moments, and the bias correction of each uses its own number of steps. Its state has the same names and values, so
    either can continue from the other's.
    """

    def __init__(self, pool: Pool, *, weight_decay: float) -> None:
        self._pool, self._decay = pool, weight_decay
        device = pool.flat.device
        self.mean, self.square = torch.zeros_like(pool.flat), torch.zeros_like(pool.flat)
        self.steps = torch.zeros(len(pool.segments), device=device)
        sizes = torch.tensor([segment.size for segment in pool.segments], device=device)
        self.owner = torch.repeat_interleave(torch.arange(len(pool.segments), device=device), sizes).int()

    def state(self) -> dict[str, Tensor]:
        """`<parameter>/<moment>` → tensor, for the parameters that have been stepped."""
        found: dict[str, Tensor] = {}
        for segment, count in zip(self._pool.segments, self.steps.cpu(), strict=True):
            if count > 0:
                found[f"{segment.name}/step"] = count.clone()
                found[f"{segment.name}/exp_avg"] = segment.view(self.mean)
                found[f"{segment.name}/exp_avg_sq"] = segment.view(self.square)
        return found

    def forget(self, names: Iterable[str]) -> None:
        """Drop the moments of some parameters, which were reset."""
        wanted = set(names)
        for number, segment in enumerate(self._pool.segments):
            if segment.name in wanted:
                self.steps[number] = 0
                segment.view(self.mean).zero_()
                segment.view(self.square).zero_()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a copy of what `state` returned.

        Raises:
            WeightStoreError: if a moment is missing or has another shape.
        """
        for moment in (self.mean, self.square, self.steps):
            moment.zero_()
        for number, segment in enumerate(self._pool.segments):
            if f"{segment.name}/step" not in state:
                continue
            self.steps[number] = state[f"{segment.name}/step"].item()
            for key, buffer in (("exp_avg", self.mean), ("exp_avg_sq", self.square)):
                found = state.get(f"{segment.name}/{key}")
                if found is None or tuple(found.shape) != segment.shape:
                    raise WeightStoreError(f"the optimiser's {key} of {segment.name} is missing or of another shape")
                segment.view(buffer).copy_(found)


def clip_factor(grad: Tensor, max_norm: float) -> tuple[Tensor, Tensor]:
    """The norm of a flat gradient, and the factor that limits it to `max_norm` (1 if `max_norm` is 0)."""
    norm = torch.linalg.vector_norm(grad)
    return norm, torch.clamp(max_norm / (norm + 1e-6), max=1.0) if max_norm > 0 else torch.ones_like(norm)


def adamw(
    flat: Tensor, grad: Tensor, mean: Tensor, square: Tensor, counts: Tensor, rates: Tensor, drawn: Tensor,
    owner: Tensor, weight_decay: float,
) -> None:  # fmt: skip
    """One step in place: `flat`, `grad`, `mean`, `square (P,)`; for each of S segments its number of steps `counts`,
    this one included, its learning rate `rates` and whether it was `drawn`, `(S,)`; `owner (P,)` is an element's
    segment.
    """
    beta1, beta2 = BETAS
    size = rates / (1 - torch.pow(beta1, counts))
    root = torch.sqrt(1 - torch.pow(beta2, counts))
    on, rate = drawn[owner], rates[owner]
    new_mean = torch.lerp(mean, grad, 1 - beta1)
    new_square = square * beta2 + grad * grad * (1 - beta2)
    moved = flat * (1 - rate * weight_decay) - size[owner] * new_mean / (new_square.sqrt() / root[owner] + EPSILON)
    flat.copy_(torch.where(on, moved, flat))
    mean.copy_(torch.where(on, new_mean, mean))
    square.copy_(torch.where(on, new_square, square))
