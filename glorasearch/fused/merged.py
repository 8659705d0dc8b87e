"""The merged weights of the current path, in fixed places, and the model around them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glorasearch.fused.bank import PLAN, Bank
from glorasearch.fused.gradients import merge
from glorasearch.fused.pool import Pool
from glorasearch.supernet import Supernet


class MergedWeights:
    """Of one path, for every bank: factors `(L, width)`, merged weights `(L, out, in)` and biases `(L, out)`, and the
    plan `(L, 3)`."""

    def __init__(self, pool: Pool, dtype: torch.dtype) -> None:
        """`dtype` is that of weights and biases."""
        like = pool.flat
        self.banks = pool.banks
        self.factors = [like.new_zeros(len(bank), bank.width) for bank in self.banks]
        self.weights = [torch.zeros_like(bank.base, dtype=dtype) for bank in self.banks]
        self.biases = [like.new_zeros(len(bank), bank.shape.out_features, dtype=dtype) for bank in self.banks]
        self.plans = [torch.zeros(len(bank), len(PLAN), dtype=torch.int32, device=like.device) for bank in self.banks]

    @torch.no_grad()
    def fill(self, packed: Sequence[Tensor], codes: Tensor) -> None:
        """Take over the factors of a path and merge, one launch a bank; `codes (layers, 5, 2)` are its choices."""
        for index, (bank, factors) in enumerate(zip(self.banks, packed, strict=True)):
            self.factors[index].copy_(factors)
            self.biases[index].copy_(bank.shape.split(factors)[2])
            self.plans[index].copy_(bank.plan(factors, codes))
            _merge(bank, self.factors[index], self.weights[index])


def _merge(bank: Bank, factors: Tensor, weights: Tensor) -> None:
    if weights.is_cuda:
        from glorasearch.fused.kernels import merge_into  # Triton is there where CUDA is

        merge_into(weights, bank.base, factors, bank.shape)
    else:
        weights.copy_(merge(bank.base, factors, bank.shape))


class MergedLinear(nn.Module):
    """A linear layer whose weight `(out, in)` and bias `(out,)` lie where a path is merged to."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        self.out_features, self.in_features = weight.shape

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in)` to `(..., out)` in the weight's dtype."""
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


def static_model(
    supernet: Supernet, layers: Mapping[str, nn.Module], dtype: torch.dtype, *, share_head: bool
) -> nn.Module:
    """The supernet's model with other modules for its adapted layers and frozen parameters of another dtype.

    The head is the supernet's own where it is shared, else a copy of that dtype.
    """
    memo: dict[int, Any] = {id(layer): layers[name] for name, layer in supernet.adapted.items()}
    skipped = {id(parameter) for layer in supernet.adapted.values() for parameter in layer.parameters()}
    head = {id(parameter) for parameter in supernet.head_parameters().values()} if share_head else set()
    for parameter in supernet.model.parameters():
        if id(parameter) in head:
            memo[id(parameter)] = parameter
        elif id(parameter) not in skipped:
            memo[id(parameter)] = nn.Parameter(parameter.detach().to(dtype, copy=True), requires_grad=False)
    return copy.deepcopy(supernet.model, memo)
