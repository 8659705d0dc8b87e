"""The merged weights of the current subnet, in fixed places, and the model around them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glorasearch.fused.bank import Bank
from glorasearch.fused.convolution import FusedConv2d, MergedConv2d
from glorasearch.fused.gradients import merge
from glorasearch.fused.layout import BIAS, CODE_WIDTH, DENSE, PRODUCTS, SCALED, SHIFTED, THIN, blank_plan
from glorasearch.fused.linear import FusedLinear
from glorasearch.fused.norms import fixed_norms, keep_dtype
from glorasearch.fused.parts import Key, key_of
from glorasearch.fused.patches import embed_by_products
from glorasearch.fused.pool import Pool, pool_of
from glorasearch.fused.streams import Streams
from glorasearch.supernet import Supernet


class MergedWeights:
    """For every bank the merged weights `(L, out, in)` and biases `(L, out)`, factors `(L, width)` and plan `(L, 6)` of
    one subnet."""

    def __init__(self, pool: Pool, dtype: torch.dtype, *, training: bool) -> None:
        """`dtype` is that of weights and biases."""
        like = pool.flat
        self.pool, self.banks, self.training = pool, pool.banks, training
        self.weights = [torch.zeros_like(bank.base, dtype=dtype) for bank in self.banks]
        self.filters = [self._filters(bank, weight) for bank, weight in zip(self.banks, self.weights, strict=True)]
        """Of convolutions, the merged weights again, `(L, out, in / groups, height, width)`, with channels last."""
        self.biases = [like.new_zeros(len(bank), bank.shape.out_features, dtype=dtype) for bank in self.banks]
        self.factors = [like.new_zeros(len(bank), bank.width) for bank in self.banks]
        self.plans = [blank_plan(len(bank), like.device) for bank in self.banks]
        parts = DENSE, THIN, SCALED, SHIFTED, PRODUCTS
        self._parts_of = [
            [(position, *(key_of(row, column) for column in parts)) for position, row in rows]
            for rows in map(zip, (bank.positions.tolist() for bank in self.banks), self.plans)
        ]
        self._parts, self._tables = pool.parts(pool.flat), pool.tables()
        self._last = torch.full((len(pool.layer_names), 5, CODE_WIDTH), -1, dtype=torch.int32, device=like.device)
        self._streams = Streams()

    @torch.no_grad()
    def fill(self, codes: Tensor) -> None:
        """Merge the subnet with these choices, `codes (layers, 5, 3)` int32; on a GPU by two launches per bank.

        On a GPU and outside training, layers whose choices are those of the previous subnet are left unchanged.
        """
        self._streams.run([partial(self._fill, index, codes) for index in range(len(self.banks))], codes.device)
        self._last.copy_(codes)

    def needed(self, codes: Sequence[Sequence[Sequence[tuple[int, ...]]]]) -> dict[Key, list[bool]]:
        """For every part of the layers' gradients, whether each of several subnets needs it; `codes` as lists
        `(subnets, layers, 5, 3)`. Sums over tokens and inputs are needed only without a dense gradient."""
        found: dict[Key, list[bool]] = {}
        for bank, places in zip(self.banks, self._parts_of, strict=True):
            for position, dense, thin, scaled, shifted, products in places:
                plans = [bank.needs(subnet[position]) for subnet in codes]
                found[dense] = [plan[DENSE] != 0 for plan in plans]
                found[thin] = [plan[DENSE] == 0 for plan in plans]
                found[scaled] = [plan[SCALED] > plan[DENSE] for plan in plans]
                found[shifted] = [max(plan[SHIFTED], plan[PRODUCTS]) > plan[DENSE] for plan in plans]
                found[products] = [plan[PRODUCTS] > plan[DENSE] for plan in plans]
        return found

    def layers(self) -> dict[str, nn.Module]:
        """The layers that run with the merged weights, by the names of those of which they take the places."""
        found: dict[str, nn.Module] = {}
        for bank, filters, biases in zip(self.banks, self.filters, self.biases, strict=True):
            for name, own, bias, geometry in zip(bank.names, filters, biases, bank.geometries, strict=True):
                found[name] = MergedLinear(own, bias) if geometry is None else MergedConv2d(own, bias, geometry)
        return found

    @staticmethod
    def _filters(bank: Bank, weight: Tensor) -> Tensor:
        """Room for the filters of a bank; the weights themselves where these are the same in memory."""
        lead = weight.shape[:2]
        if len(bank.filter) == 1 or bank.filter[1:] == (1, 1):
            return weight.view(*lead, *bank.filter)
        channels, high, wide = bank.filter
        return weight.new_zeros(*lead, high, wide, channels).permute(0, 1, 4, 2, 3)

    def forget(self) -> None:
        """Merge every layer next time, because the storages have changed."""
        self._last.fill_(-1)

    def _fill(self, index: int, codes: Tensor) -> None:
        """Merge one bank, which writes nothing that another one reads."""
        if codes.is_cuda:
            self._launch(index, codes)
        else:
            self._reference(index, codes)
        weights, filters = self.weights[index], self.filters[index]
        if filters.data_ptr() != weights.data_ptr():
            filters.copy_(weights.view_as(filters))

    def _launch(self, index: int, codes: Tensor) -> None:
        from glorasearch.fused.merge_kernels import merge_into  # Triton is installed where CUDA is

        places = self.weights[index], self.biases[index], self.factors[index], self.plans[index]
        last = None if self.training else self._last
        merge_into(
            self.banks[index],
            self.pool.flat,
            self._tables[index],
            codes,
            *places,
            parts=self._parts[index],
            last=last,
        )

    def _reference(self, index: int, codes: Tensor) -> None:
        bank = self.banks[index]
        factors = bank.factors(self._parts[index], codes)
        self.weights[index].copy_(merge(bank.base, factors, bank.shape, (bank.extras.left, bank.extras.right)))
        self.biases[index].copy_(bank.shape.split(factors)[BIAS])
        self.factors[index].copy_(factors)
        self.plans[index].copy_(bank.plan(codes))


def fused_layers(merged: MergedWeights, leaves: Sequence[Sequence[Tensor]]) -> dict[str, nn.Module]:
    """The layers of a step's model by name; `leaves` has the rows of `merged.factors`, bank by bank, as leaves."""
    layers: dict[str, nn.Module] = {}
    for number, bank in enumerate(merged.banks):
        own = merged.weights[number], merged.filters[number], merged.biases[number], leaves[number]
        rows = zip(bank.names, bank.geometries, *own, bank.base, merged.plans[number], strict=True)
        more = bank.shape, (bank.extras.left, bank.extras.right)
        for name, geometry, weight, filters, bias, leaf, base, plan in rows:
            if geometry is None:
                layers[name] = FusedLinear(weight, bias, leaf, base, plan, *more)
            else:
                layers[name] = FusedConv2d(weight, filters, bias, leaf, base, plan, *more, geometry)
    return layers


class MergedLinear(nn.Module):
    """A linear layer whose weight `(out, in)` and bias `(out,)` lie where subnets are merged."""

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
    """The supernet's model with its adapted layers replaced and its frozen parameters copied in another dtype.

    The head is the supernet's own with `share_head`, otherwise a copy in that dtype. Patch embeddings on a GPU:
    `fused.patches`. Norms: `fused.norms`; a batch norm computes in the dtype of its statistics. Activations change
    nothing in place, since what a layer gives may be kept for its gradient, or be seen through a view, of which
    autograd allows no change.
    """
    memo: dict[int, Any] = {id(layer): layers[name] for name, layer in supernet.adapted.items()}
    memo |= {id(norm): fixed for norm, fixed in fixed_norms(supernet.model)}
    skipped = {id(parameter) for layer in supernet.adapted.values() for parameter in layer.parameters()}
    head = {id(parameter) for parameter in supernet.head_parameters().values()} if share_head else set()
    norms = (module for module in supernet.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    kept = {id(parameter) for norm in norms for parameter in norm.parameters()}
    for parameter in supernet.model.parameters():
        if id(parameter) in head:
            memo[id(parameter)] = parameter
        elif id(parameter) not in skipped:
            own = parameter.detach().to(parameter.dtype if id(parameter) in kept else dtype, copy=True)
            memo[id(parameter)] = nn.Parameter(own, requires_grad=False)
    model = copy.deepcopy(supernet.model, memo)
    pool = pool_of(supernet)
    if pool.convolves:
        keep_dtype(model)
    elif pool.flat.is_cuda:
        embed_by_products(model)
    for module in model.modules():
        if getattr(module, "inplace", False) is True:
            setattr(module, "inplace", False)  # noqa: B010 - whichever class it is
    return model
