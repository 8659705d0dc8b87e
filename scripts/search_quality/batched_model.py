"""A timm model that carries weights for M models at once: the layers and the merge.

Each adapted layer holds M weights, `W = W0 + W0⊙A + B`, as an exported model has them, and runs the images of all
models as one stack with one batched product. So any mix of choices costs the same, A = `lora` (which has no low-rank
form) included, and what is trained is what is exported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from layout import ALIGN, Layout, Stack
from torch import Tensor, nn


class BatchedLinear(nn.Module):
    """A linear layer with a weight and a bias of its own for each model: `(M·B, ..., in)` to `(M·B, ..., out)`."""

    weight: Tensor
    """`(M, out, in)` in the dtype of the products."""
    bias: Tensor
    """`(M, out)`"""

    def forward(self, x: Tensor) -> Tensor:
        """One batched product for all models."""
        models, out, inputs = self.weight.shape
        rows = x.to(self.weight.dtype).reshape(models, -1, inputs)
        y = torch.baddbmm(self.bias[:, None], rows, self.weight.transpose(1, 2))
        return y.view(*x.shape[:-1], out)


class BatchedNorm(nn.Module):
    """A LayerNorm with an affine part of its own for each model."""

    weight: Tensor
    """`(M, dim)`"""
    bias: Tensor

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """As LayerNorm over the last dimension."""
        models, dim = self.weight.shape
        y = F.layer_norm(x, (dim,), eps=self.eps).view(models, -1, dim)
        return torch.addcmul(self.bias[:, None], y, self.weight[:, None]).view(x.shape)


class BatchedDropPath(nn.Module):
    """Stochastic depth with a rate of its own for each model; in training mode only."""

    keep: Tensor
    """`(M,)`"""

    def forward(self, x: Tensor) -> Tensor:
        """Drop the residual branch of whole images."""
        if not self.training:
            return x
        keep = self.keep.repeat_interleave(x.shape[0] // self.keep.shape[0])
        drawn = (torch.rand_like(keep) < keep) / keep
        return x * drawn.view(-1, *[1] * (x.dim() - 1)).to(x.dtype)


class BatchedModel(nn.Module):
    """A timm model whose adapted layers hold weights for M models; the weights are set before each forward.

    Args:
        model: the backbone; its adapted layers are replaced in place, everything is frozen.
        layout: of the parameters.
        dtype: of the products (float32, float64 or bfloat16); norms and the residual stream keep that of the model.
        drop_path: whether models may have a drop path rate.
    """

    def __init__(self, model: nn.Module, layout: Layout, *, dtype: torch.dtype, drop_path: bool = False) -> None:
        super().__init__()
        self.model, self.layout, self.dtype = model.requires_grad_(False).eval(), layout, dtype
        self.drops: list[BatchedDropPath] = []
        self._carriers: list[list[BatchedLinear | BatchedNorm]] = []
        self._weights: list[Tensor] = []
        self._biases: list[Tensor] = []
        for stack in layout.stacks:
            if stack.kind == "head":
                continue
            own = [model.get_submodule(name) for name in stack.names]
            weights = torch.stack([layer.weight.detach() for layer in own])  # type: ignore[arg-type]
            zero = weights.new_zeros(stack.out_features)
            biases = torch.stack([zero if layer.bias is None else layer.bias.detach() for layer in own])  # type: ignore[misc,arg-type,union-attr]
            self.register_buffer(f"weight{len(self._weights)}", weights, persistent=False)
            self.register_buffer(f"bias{len(self._weights)}", biases, persistent=False)
            self._weights.append(weights)
            self._biases.append(biases)
            carriers: list[BatchedLinear | BatchedNorm] = []
            for name, layer in zip(stack.names, own, strict=True):
                carrier = BatchedNorm(layer.eps) if isinstance(layer, nn.LayerNorm) else BatchedLinear()
                parent, _, last = name.rpartition(".")
                setattr(model.get_submodule(parent), last, carrier)
                carriers.append(carrier)
            self._carriers.append(carriers)
        if drop_path:
            for block in model.blocks:  # type: ignore[union-attr]
                for name in ("drop_path1", "drop_path2"):
                    drop = BatchedDropPath()
                    setattr(block, name, drop)
                    self.drops.append(drop)

    def merge(self, theta: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Weights `(M, L, out, in)` and biases `(M, L, out)` of each stack, from `theta (M, P)` and `mask (M, P)`."""
        merged: list[tuple[Tensor, Tensor]] = []
        sizes, names = [], []
        for stack in self.layout.stacks:
            for part, segment in stack.segments.items():
                names.append((stack, part))
                following = math.prod(segment.shape)
                sizes.append(-(-following // ALIGN) * ALIGN)
        pieces: dict[tuple[int, str], Tensor] = {}
        for (stack, part), piece, kept in zip(names, theta.split(sizes, 1), mask.split(sizes, 1), strict=True):
            segment = stack.segments[part]
            size = math.prod(segment.shape)
            pieces[id(stack), part] = (piece[:, :size] * kept[:, :size]).view(len(theta), *segment.shape)
        index = 0
        for stack in self.layout.stacks:
            own = {part: pieces[id(stack), part] for part in stack.segments}
            if stack.kind == "head":
                merged.append((own["head.weight"], own["head.bias"]))
                continue
            weights, biases = getattr(self, f"weight{index}"), getattr(self, f"bias{index}")
            index += 1
            if stack.kind == "norm":
                merged.append(_merge_norm(own, weights, biases, len(theta)))
            else:
                merged.append(_merge_linear(stack, own, weights, biases, self.dtype))
        return merged

    def install(self, merged: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Set what `merge` gave."""
        stacks = [stack for stack in self.layout.stacks if stack.kind != "head"]
        for stack, carriers, (weight, bias) in zip(stacks, self._carriers, merged[:-1], strict=True):
            dtype = self.dtype if stack.kind == "linear" else weight.dtype
            for carrier, own, shift in zip(carriers, weight.unbind(1), bias.to(dtype).unbind(1), strict=True):
                carrier.weight, carrier.bias = own, shift
        self._head = merged[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(M, B, classes)` of `images (M·B, 3, H, W)`."""
        x = self.model.forward_features(images)  # type: ignore[operator]
        x = self.model.forward_head(x, pre_logits=True)  # type: ignore[operator]
        weight, bias = self._head
        rows = x.to(weight.dtype).reshape(weight.shape[0], -1, weight.shape[3])
        return torch.baddbmm(bias, rows, weight[:, 0].transpose(1, 2))


def _merge_linear(
    stack: Stack, own: dict[str, Tensor], weights: Tensor, biases: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    cast = {part: value.to(dtype) for part, value in own.items()}
    scale: Tensor | None = None
    if "A.down" in own:
        scale = _product(cast["A.down"], cast["A.up"])
    for part, view in (("A.vector", (..., None)), ("A.constant", (..., None))):
        if part in own:
            line = own[part][view]
            scale = line if scale is None else scale + line
    down, up = [], []
    if "B.down" in own:
        down.append(cast["B.down"])
        up.append(cast["B.up"])
    if "A.phi" in own:
        down.append(_through(weights.to(dtype), cast["A.phi"]))
        up.append(cast["A.psi"])
    weight = weights if scale is None else weights + weights * scale
    if down:
        weight = weight + _product(torch.cat(down, -1), torch.cat(up, -2))
    for part in ("B.vector", "B.constant"):
        if part in own:
            weight = weight + own[part][..., None]
    bias = biases
    for part in ("D.vector", "D.constant"):
        if part in own:
            bias = bias + biases * own[part]
    for part in ("E.vector", "E.constant"):
        if part in own:
            bias = bias + own[part]
    prompt: Tensor | None = own.get("C.vector")
    if "C.down" in own:
        product = (own["C.down"] @ own["C.up"]).squeeze(-1)
        prompt = product if prompt is None else prompt + product
    if prompt is not None:
        bias = bias + torch.einsum("loi,mli->mlo", weights, prompt)
    models = next(iter(own.values())).shape[0]
    return weight.to(dtype).expand(models, -1, -1, -1), bias.expand(models, -1, -1)


def _product(down: Tensor, up: Tensor) -> Tensor:
    """`(M, L, out, r) @ (M, L, r, in)` as one batched product."""
    models, layers = down.shape[:2]
    return torch.bmm(down.flatten(0, 1), up.flatten(0, 1)).unflatten(0, (models, layers))


def _through(weights: Tensor, phi: Tensor) -> Tensor:
    """`W0·φ (M, L, out, r)` of `W0 (L, out, in)` and `φ (M, L, in, r)`: one product a layer for all models."""
    models, layers, inputs, rank = phi.shape
    stacked = phi.permute(1, 2, 0, 3).reshape(layers, inputs, models * rank)
    return torch.bmm(weights, stacked).view(layers, -1, models, rank).permute(2, 0, 1, 3)


def _merge_norm(own: dict[str, Tensor], weights: Tensor, biases: Tensor, models: int) -> tuple[Tensor, Tensor]:
    weight = weights + weights * own["A.vector"] if "A.vector" in own else weights
    bias = biases + own["E.vector"] if "E.vector" in own else biases
    return weight.expand(models, -1, -1), bias.expand(models, -1, -1)
