"""The optimiser of a supernet and its state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from glorasearch.supernet import Supernet


class SupernetOptimizer:
    """AdamW over three groups: low-rank factors, vectors and constants of the support tensors, and the head.

    A parameter that is not on the step's path has no gradient, and AdamW leaves it and its moments alone: each is
    stepped, and its bias corrected, as often as it was drawn (the factors of several ranks are one parameter, drawn
    with each of them). The groups differ by learning rate: a vector acts on an output directly where a low-rank product
    starts at zero in one factor, so they may want different step sizes.
    """

    def __init__(self, supernet: Supernet, *, lr: float, vector_lr: float, head_lr: float, weight_decay: float) -> None:
        self._named: dict[str, nn.Parameter] = supernet.adapter_parameters() | supernet.head_parameters()
        adapters = supernet.adapter_parameters()
        factors = [p for name, p in adapters.items() if name.rpartition(".")[2] in ("down", "up")]
        vectors = [p for name, p in adapters.items() if name.rpartition(".")[2] not in ("down", "up")]
        groups = [
            {"params": factors, "peak": lr},
            {"params": vectors, "peak": vector_lr},
            {"params": list(supernet.head_parameters().values()), "peak": head_lr},
        ]
        self._adamw = torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=lr, weight_decay=weight_decay, fused=True
        )

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Everything that is trained."""
        return list(self._named.values())

    def set_rates(self, factor: float) -> None:
        """Set the learning rates of a step: the peaks times a factor."""
        for group in self._adamw.param_groups:
            group["lr"] = group["peak"] * factor

    def zero_grad(self) -> None:
        """Forget all gradients; those of undrawn choices stay None."""
        self._adamw.zero_grad(set_to_none=True)

    def clip(self, max_norm: float) -> Tensor:
        """Scale the gradients to a total norm of at most `max_norm` (0: leave them); returns the norm before."""
        present = [p.grad for p in self._named.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(present)
        if max_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(
                [p for p in self._named.values() if p.grad is not None], max_norm, norm, foreach=True
            )
        return norm

    def step(self) -> None:
        """One AdamW step."""
        self._adamw.step()

    def state(self) -> dict[str, Tensor]:
        """`<parameter>/<moment>` → tensor, for the parameters that were ever stepped."""
        return {
            f"{name}/{key}": value
            for name, parameter in self._named.items()
            for key, value in self._adamw.state.get(parameter, {}).items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave, copied."""
        for name, parameter in self._named.items():
            moments = {
                key: state[f"{name}/{key}"].clone().to(parameter.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{name}/{key}" in state
            }
            if moments:
                self._adamw.state[parameter] = moments
