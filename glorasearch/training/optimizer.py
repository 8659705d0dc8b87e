"""The optimiser of a supernet and its state as named tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from glorasearch.supernet import Supernet


class SupernetOptimizer:
    """AdamW over the parts of the support tensors, in groups as their choices say (`Part.rate`), and the head.

    A parameter that is not on the step's path has no gradient, and AdamW leaves it and its moments alone: each is
    stepped, and its bias corrected, as often as it was drawn (the factors of several ranks are one parameter, drawn
    with each of them). The groups differ by learning rate: a vector acts on an output directly, a low-rank product
    starts at zero in one factor, and a coefficient of a spectrum is divided by the size of the weight.
    """

    def __init__(self, supernet: Supernet, peaks: Mapping[str, float], *, weight_decay: float) -> None:
        """`peaks` are the peak learning rates by group: `factor`, `vector`, `spectrum` and `head`."""
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

    def set_rates(self, factor: float) -> None:
        """Set the learning rates of a step: the peaks times a factor."""
        for group in self._adamw.param_groups:
            group["lr"] = group["peak"] * factor

    def zero_grad(self) -> None:
        """Forget all gradients; those of undrawn choices stay None."""
        self._adamw.zero_grad(set_to_none=True)

    def row(self) -> Tensor:
        """For every parameter whether it was drawn, 1 or 0, and then all gradients, zeros where there is none."""
        parameters = self.parameters
        drawn = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        found = (torch.zeros_like(p) if p.grad is None else p.grad for p in parameters)
        return torch.cat([drawn, *(gradient.flatten() for gradient in found)])

    def set_row(self, row: Tensor) -> None:
        """Take the gradients from a row, that of `row` or the sum of several; those of undrawn choices are None."""
        parameters = self.parameters
        sizes = [p.numel() for p in parameters]
        gradients = torch.split(row[len(sizes) :], sizes)
        for parameter, drawn, own in zip(parameters, row[: len(sizes)].tolist(), gradients, strict=True):
            parameter.grad = own.view_as(parameter).to(parameter.dtype) if drawn else None

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
        """Drop the moments of some parameters: they have started anew."""
        for name in names:
            self._adamw.state.pop(self._named[name], None)

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
