"""The optimiser of a supernet: its learning rates, their schedule, and its state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor, nn

from glorasearch.choices import parse_choice
from glorasearch.space import BoundSpace
from glorasearch.supernet import Supernet
from glorasearch.training.config import TrainingConfig

SPECTRUM_SHARE: Final = 0.04
"""How far a step of one coefficient of a spectrum moves an entry of the weight, as a share of a low-rank factor's step.

An entry moves by lr·α / (out·in), so each size of weight has a rate of its own, share · lr · out·in / α. With the
factors' 1e-3, on query and value of a ViT-B/16, that makes 0.08 at α = 300 (published are 0.05 to 0.3). Measured on the
quickstart's backbone, with one rate for all layers: 98.1 % at 0.03, 95.2 at 0.003, 70.1 at 0.3; 0.04 was the mean rate
that this share gives at 1e-2."""


def peak_rates(space: BoundSpace, config: TrainingConfig) -> dict[str, float]:
    """Peak learning rate by group: those of `Choice.rate_group` in this space, and `head`."""
    lr, vector, spectrum, head = config.lr, config.vector_lr, config.spectrum_lr, config.head_lr
    peaks = {"factor": lr, "vector": lr if vector is None else vector, "head": lr if head is None else head}
    for group in _spectra(space):
        size = float(group.rpartition(" ")[2])
        peaks[group] = SPECTRUM_SHARE * lr * size if spectrum is None else spectrum
    return peaks


def _spectra(space: BoundSpace) -> set[str]:
    """The learning-rate groups of spectra."""
    found: set[str] = set()
    for gene in space.genes:
        for choice in map(parse_choice, gene.choices):
            site = space.site(gene, choice.name)
            for part in choice.parts(site, **choice.given).values():
                if part.rate == "spectrum":
                    found.add(choice.rate_group(part, site))
    return found


def lr_scale(step: int, steps: int, warmup_steps: int) -> float:
    """The factor on the peak learning rates at a step, 0 ≤ step < steps: linear warm-up to 1, then a cosine to 0."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


class SupernetOptimizer:
    """AdamW over the parts of the support tensors, in groups by `Part.rate`, and the head.

    A parameter that is not in a step's subnets has no gradient, and AdamW leaves it and its moments alone: each is
    stepped, and its bias corrected, as often as it was sampled (the factors of several ranks are one parameter, sampled
    with each of them). The groups differ by learning rate: a vector acts on an output directly, a low-rank product
    starts at zero in one factor, and a coefficient of a spectrum is divided by the size of the weight.
    """

    def __init__(self, supernet: Supernet, peaks: Mapping[str, float], *, weight_decay: float) -> None:
        """`peaks` are the peak learning rates by group, as `peak_rates` gives them."""
        self._named: dict[str, nn.Parameter] = supernet.adapter_parameters() | supernet.head_parameters()
        adapters = supernet.adapter_parameters()
        members: dict[str, list[nn.Parameter]] = {}
        for name, rate in supernet.rates().items():
            members.setdefault(rate, []).append(adapters[name])
        members["head"] = list(supernet.head_parameters().values())
        unknown = sorted(members.keys() - peaks.keys())
        if unknown:
            raise ValueError(f"no learning rate is given for {unknown}: a choice's Part.rate is one of {sorted(peaks)}")
        self._adamw = torch.optim.AdamW(
            [{"params": own, "peak": peaks[rate]} for rate, own in members.items()],
            weight_decay=weight_decay,
            fused=True,
        )

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Everything that is trained."""
        return list(self._named.values())

    def set_lr(self, scale: float) -> None:
        """Set the learning rate of every group to its peak times `scale`."""
        for group in self._adamw.param_groups:
            group["lr"] = group["peak"] * scale

    def zero_grad(self) -> None:
        """Clear all gradients; those of choices that are not sampled stay None."""
        self._adamw.zero_grad(set_to_none=True)

    def flat_gradients(self) -> Tensor:
        """For every parameter 1 if it has a gradient, else 0; then all gradients, zeros where there is none."""
        parameters = self.parameters
        present = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        gradients = (torch.zeros_like(p) if p.grad is None else p.grad for p in parameters)
        return torch.cat([present, *(gradient.flatten() for gradient in gradients)])

    def set_flat_gradients(self, flat: Tensor) -> None:
        """Take the gradients from a result of `flat_gradients`, or from the mean of several."""
        parameters = self.parameters
        sizes = [p.numel() for p in parameters]
        gradients = torch.split(flat[len(sizes) :], sizes)
        for parameter, present, gradient in zip(parameters, flat[: len(sizes)].tolist(), gradients, strict=True):
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype) if present else None

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

    def forget(self, names: Iterable[str]) -> None:
        """Drop the moments of some parameters, which have been initialised again."""
        for name in names:
            self._adamw.state.pop(self._named[name], None)

    def state(self) -> dict[str, Tensor]:
        """`<parameter>/<moment>` → tensor, for the parameters that have been stepped."""
        return {
            f"{name}/{key}": value
            for name, parameter in self._named.items()
            for key, value in self._adamw.state.get(parameter, {}).items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a result of `state`, copied."""
        for name, parameter in self._named.items():
            moments = {
                key: state[f"{name}/{key}"].clone().to(parameter.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{name}/{key}" in state
            }
            if moments:
                self._adamw.state[parameter] = moments
