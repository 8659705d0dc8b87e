"""Where the parameters of M adapted models lie: one row of numbers a model, the same columns for all of them.

A row holds every part of every choice of every layer (GLoRA's A, B, C, D, E; WeGeFT's factors; ranks padded to the
largest) and the classifier head. Which of them a model uses is a mask over its row, made from one small number a gene:
so models with different choices train in one static graph, and a subnet is data. Layers of one shape are stacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

ALIGN = 16
"""Columns of a segment start at multiples of it, so that kernels may read them in wide words."""
HEAD_BOUND = 0.02 * 3**0.5
"""The head starts uniform with a standard deviation of 0.02, its bias at zero."""
TENSORS = ("A", "B", "C", "D", "E")


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of one kind of choice for a stack of L layers of one shape: `(L, *shape)` columns of a row."""

    part: str
    """`A.down`, `B.vector`, ...: the support tensor and the part."""
    offset: int
    shape: tuple[int, ...]
    """With L in front."""
    bound: float
    """It starts uniform within ±bound."""
    vector: bool
    """Whether it is a vector or constant, not a factor: it may have a learning rate of its own."""


@dataclass(slots=True)
class Stack:
    """Layers of one shape, with what their parts are."""

    kind: str
    """`linear`, `norm` or `head`."""
    names: list[str]
    out_features: int
    in_features: int
    segments: dict[str, Segment] = field(default_factory=dict)


class Layout:
    """The columns of a row, and the genes whose choices say which of them are in use.

    Args:
        backbone: a timm model; the linear layers under `blocks` are adapted, and if `norm_choices` is given, its norms.
        choices: support tensor → what its gene may choose, e.g. `{"A": ["none", "lora:8"], "B": ["none", "vector"]}`.
        classes: outputs of the head.
        norm_choices: the same for LayerNorms (A and E: scale and shift of the affine part; `none` and `vector`).
        head_in: width of the pooled features.
    """

    def __init__(
        self,
        backbone: nn.Module,
        choices: Mapping[str, Sequence[str]],
        *,
        classes: int,
        head_in: int,
        norm_choices: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.choices = {tensor: list(choices.get(tensor, ["none"])) for tensor in TENSORS}
        self.norm_choices = {tensor: list((norm_choices or {}).get(tensor, ["none"])) for tensor in TENSORS}
        self.genes: list[tuple[str, str]] = []
        """(layer, support tensor) of each gene."""
        self.stacks: list[Stack] = []
        self.columns = 0
        self._gene: list[np.ndarray] = []
        self._bits: list[np.ndarray] = []
        self._group: list[np.ndarray] = []
        by_shape: dict[tuple[str, int, int], list[str]] = {}
        for name, module in backbone.named_modules():
            if isinstance(module, nn.Linear) and "blocks" in name:
                by_shape.setdefault(("linear", module.out_features, module.in_features), []).append(name)
            elif isinstance(module, nn.LayerNorm) and norm_choices:
                by_shape.setdefault(("norm", module.normalized_shape[0], 1), []).append(name)
        for (kind, out, inputs), names in by_shape.items():
            self._add_stack(Stack(kind, names, out, inputs))
        head = Stack("head", ["head"], classes, head_in)
        self.stacks.append(head)
        self._add(head, "head.weight", (classes, head_in), HEAD_BOUND, [None], [None], group=2)
        self._add(head, "head.bias", (classes,), 0.0, [None], [None], group=2)
        self.gene_of = torch.from_numpy(np.concatenate(self._gene))
        """(P,): the gene of a column; that of columns always in use is the last, artificial one."""
        self.bits = torch.from_numpy(np.concatenate(self._bits))
        """(P,): bit c is set if choice number c of its gene uses the column."""
        self.group = torch.from_numpy(np.concatenate(self._group))
        """(P,): 0 factor, 1 vector or constant, 2 head."""
        self.gene_of[self.gene_of < 0] = len(self.genes)

    def options(self, gene: int) -> list[str]:
        """The choices of a gene."""
        layer, tensor = self.genes[gene]
        return (self.norm_choices if "norm" in layer.rsplit(".", 1)[-1] else self.choices)[tensor]

    def _add_stack(self, stack: Stack) -> None:
        choices = self.choices if stack.kind == "linear" else self.norm_choices
        self.stacks.append(stack)
        layers, out, inputs = len(stack.names), stack.out_features, stack.in_features
        for tensor in TENSORS:
            options = choices[tensor]
            if options == ["none"]:
                continue
            genes = [len(self.genes) + i for i in range(layers)]
            self.genes += [(name, tensor) for name in stack.names]
            rows = inputs if tensor == "C" else out
            columns = inputs if tensor in "AB" else 1
            parsed = [(option.split(":")[0], int((option + ":0").split(":")[1])) for option in options]
            lora = max([rank for kind, rank in parsed if kind == "lora"], default=0)
            wegeft = max([rank for kind, rank in parsed if kind == "wegeft"], default=0)
            by_rank = {
                kind: [sum(1 << c for c, (k, r) in enumerate(parsed) if k == kind and r > i) for i in range(top)]
                for kind, top in (("lora", lora), ("wegeft", wegeft))
            }
            one = {kind: sum(1 << c for c, (k, _) in enumerate(parsed) if k == kind) for kind in ("vector", "constant")}
            if lora:
                bits = np.array(by_rank["lora"])
                bound = (6 / (lora + columns)) ** 0.5
                self._add(stack, f"{tensor}.down", (rows, lora), 0.0, genes, np.tile(bits, (rows, 1)))
                self._add(stack, f"{tensor}.up", (lora, columns), bound, genes, np.tile(bits[:, None], (1, columns)))
            if wegeft:
                bits = np.array(by_rank["wegeft"])
                self._add(stack, f"{tensor}.phi", (inputs, wegeft), inputs**-0.5, genes, np.tile(bits, (inputs, 1)))
                self._add(stack, f"{tensor}.psi", (wegeft, inputs), 0.0, genes, np.tile(bits[:, None], (1, inputs)))
            for kind, size in (("vector", rows), ("constant", 1)):
                if one[kind]:
                    self._add(stack, f"{tensor}.{kind}", (size,), 0.0, genes, np.full(size, one[kind]), group=1)

    def _add(
        self,
        stack: Stack,
        part: str,
        shape: tuple[int, ...],
        bound: float,
        genes: Sequence[int | None],
        bits: np.ndarray | list[None],
        group: int = 0,
    ) -> None:
        full = (len(genes), *shape)
        size = prod(full)
        padded = -(-size // ALIGN) * ALIGN
        stack.segments[part] = Segment(part, self.columns, full, bound, group == 1)
        gene, bit = np.full(padded, -1), np.zeros(padded, dtype=np.int64)
        if genes[0] is None:
            bit[:size] = 1  # the artificial gene's only choice is number 0
        else:
            gene[:size] = np.repeat(np.array(genes), prod(shape))
            bit[:size] = np.tile(np.asarray(bits).reshape(-1), len(genes))
        self._gene.append(gene)
        self._bits.append(bit)
        self._group.append(np.full(padded, group))
        self.columns += padded

    def encode(self, subnet: Mapping[tuple[str, str], str]) -> np.ndarray:
        """The code of a subnet, `(G,)`: for each gene the number of its choice; genes not named choose `none`."""
        known = set(self.genes)
        if unknown := [gene for gene in subnet if gene not in known]:
            raise KeyError(f"no such gene: {unknown[0]}")
        return np.array(
            [self.options(i).index(subnet.get(gene, "none")) for i, gene in enumerate(self.genes)], dtype=np.int64
        )

    def mask(self, codes: Tensor) -> Tensor:
        """Which columns the subnets of `codes (M, G)` use: `(M, P)` of 0 and 1 (uint8)."""
        codes = torch.cat([codes, torch.zeros_like(codes[:, :1])], dim=1)
        gene_of, bits = self.gene_of.to(codes.device), self.bits.to(codes.device)
        return ((bits >> codes[:, gene_of]) & 1).to(torch.uint8)

    def size(self, codes: Tensor) -> Tensor:
        """Trainable parameters of subnets, the head excluded: `(M,)`."""
        return (self.mask(codes) * (self.group != 2).to(codes.device)).sum(1, dtype=torch.int64)

    def start(self, generator: torch.Generator) -> Tensor:
        """A fresh row, `(P,)`: zeros, and uniform draws within each segment's bound."""
        row = torch.zeros(self.columns, dtype=torch.float64)
        for stack in self.stacks:
            for segment in stack.segments.values():
                if segment.bound:
                    size = prod(segment.shape)
                    drawn = torch.rand(size, generator=generator, dtype=torch.float64)
                    row[segment.offset : segment.offset + size] = (2 * drawn - 1) * segment.bound
        return row
