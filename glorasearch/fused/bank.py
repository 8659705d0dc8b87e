"""Layers of one shape with the same choices, stacked: their storages, and the factors that a subnet makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from glorasearch.adapters import AdaptedLayer
from glorasearch.fused.extras import Extras, Key, spectral_choices, what_is_not_covered
from glorasearch.fused.geometry import Geometry
from glorasearch.fused.layout import CONSTANT, LORA, PARTS, VECTOR, Shape
from glorasearch.space import SUPPORT_TENSORS


class Bank:
    """L layers of one shape that have the same storages, stacked along a first dimension.

    A subnet's **factors** are what its choices amount to in the one form that all layers have (`⊙` element-wise, `·`
    the matrix product, `1` a row of ones):

        W = W0 ⊙ (1 + scale·1 + left_A·right_A) + shift·1 + left_B·right_B + P·diag(spectrum)·Q
        b = b0 ⊙ (1 + D) + E + W0·C

    where choices that are not drawn are zeros. So one static computation serves every subnet, and the subnet is data.
    Each layer has one row of factors: `scale (out,)`, `shift (out,)`, `bias (out,)` (b itself), `left (out, r)`,
    `right (r, in)`, `spectrum (n,)`. `left_B` has the columns of B's `lora` and then those of the extras
    (`glorasearch.fused.extras`), which also give the spectrum and the fixed P and Q.
    """

    def __init__(self, names: Sequence[str], layers: Sequence[AdaptedLayer], positions: Sequence[int]) -> None:
        """`positions` are the layers' rows in the codes: their places in the space's order of layers."""
        self.names, self.layers = tuple(names), tuple(layers)
        first = layers[0]
        self.storages: dict[Key, tuple[int, ...]] = {
            key: tuple(parameter.shape) for key, parameter in storages(first).items()
        }
        self.aliased = {tensor: first.support_of(tensor).aliased for tensor in first.support}
        ranks = {tensor: self.storages.get((tensor, "down"), (0, 0))[1] for tensor in "ABC"}
        self.prompt_rank, self.lora_rank = ranks["C"], ranks["B"]
        self.base = torch.stack([layer.weight_view.detach() for layer in layers])
        self.filter = tuple(first.base.weight.shape[1:])
        """The shape of one output's weights: `(in,)`, or of a filter `(in / groups, height, width)`."""
        self.geometries = tuple(geometry_of(layer) for layer in layers)
        """Those of convolutions."""
        self.extras = extras = Extras(first, self.base)
        shift_rank = ranks["B"] + extras.rank
        sizes = first.out_features, first.in_features, ranks["A"], shift_rank, extras.entries
        self.shape = Shape(*sizes, spatial=is_spatial(first))
        self.base_bias: Tensor | None = None
        if first.base.bias is not None:
            self.base_bias = torch.stack([layer.base.bias.detach() for layer in layers if layer.base.bias is not None])
        self.positions = torch.tensor(positions, device=self.base.device)
        tensors = {"A", "B", *(extra.tensor for extra in extras.all)}
        self._decisive = [place for place, tensor in enumerate(SUPPORT_TENSORS) if tensor in tensors]
        self._needs: dict[tuple[int, ...], tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def width(self) -> int:
        """Elements of one layer's factors."""
        return sum(self.shape.sizes)

    def factors(self, parts: Mapping[Key, Tensor], codes: Tensor) -> Tensor:
        """`(L, width)` from the stacked storages and the codes `(layers, 5, 3)`; differentiable in `parts`."""
        own = codes[self.positions]
        scale = self._vector("A", parts, own)
        shift = self._vector("B", parts, own)
        extra_left, extra_right, spectrum = self.extras.columns(parts, own)
        left = torch.cat([self._left("A", parts, own), self._left("B", parts, own), extra_left], dim=-1)
        right = torch.cat([self._right("A", parts), self._right("B", parts), extra_right], dim=-2)
        bias = self._bias(parts, own)
        return torch.cat([scale, shift, bias, left.flatten(1), right.flatten(1), spectrum], dim=-1)

    def plan(self, codes: Tensor) -> Tensor:
        """`(L, 6)` int32, columns `PLAN`: what each layer's gradient has to compute and its merge to add.

        A's products need the dense weight gradient, and so do those that shift the weight where `Shape.thin_products`
        says so: in a small layer, or with many columns. So does a scale whose gradient cannot be derived from the
        layer's outputs, because these are not kept. In a spatial convolution so does a shift, whose gradient would
        otherwise want the sum of every patch.
        """
        return self._plan(codes[self.positions])

    def needs(self, choices: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """The row of the plan of a layer with the codes `(5, 3)`, known to the host without asking the device.

        It follows from the classes of A's, B's and the extras' choices alone, so there are few to remember.
        """
        classes = tuple([choices[tensor][0] for tensor in self._decisive])
        if classes not in self._needs:
            self._needs[classes] = tuple(self._plan(torch.tensor([choices]))[0].tolist())
        return self._needs[classes]

    def _plan(self, own: Tensor) -> Tensor:
        a, b = own[:, 0, 0], own[:, 1, 0]
        scaled, shifted = (a == CONSTANT) | (a == VECTOR), (b == CONSTANT) | (b == VECTOR)
        products, spectra = self.extras.drawn(own)
        shifts = (b == LORA) | products
        dense = (a == LORA) | spectra
        if not self.shape.thin_products:
            dense = dense | shifts
        if not self.shape.keeps_output:
            dense = dense | scaled
        if self.shape.spatial:
            dense = dense | shifted
        return torch.stack([dense, scaled, shifted, products * self.extras.rank, spectra, shifts], dim=1).int()

    def _vector(self, tensor: str, parts: Mapping[Key, Tensor], own: Tensor) -> Tensor:
        """A choice `vector` or `constant` as `(L, rows)`, zeros where another one is drawn."""
        drawn = own[:, SUPPORT_TENSORS.index(tensor), 0, None]
        rows = self.shape.in_features if tensor == "C" else self.shape.out_features
        vector, constant = parts.get((tensor, "vector")), parts.get((tensor, "constant"))
        if self.aliased.get(tensor):
            if vector is None and (tensor, "down") in parts:
                vector = parts[tensor, "down"][..., 0]
            constant = None if vector is None else vector[:, :1]
        total = self.base.new_zeros(len(self), rows)
        if vector is not None:
            total = torch.where(drawn == VECTOR, vector, total)
        if constant is not None:
            total = torch.where(drawn == CONSTANT, constant, total)
        return total

    def _left(self, tensor: str, parts: Mapping[Key, Tensor], own: Tensor) -> Tensor:
        """The `down` of a product, `(L, rows, r)`, zeros beyond the drawn rank."""
        rows = self.shape.in_features if tensor == "C" else self.shape.out_features
        down = parts.get((tensor, "down"))
        if down is None:
            return self.base.new_zeros(len(self), rows, 0)
        return down * self._drawn(tensor, down.shape[-1], own)[:, None]

    def _drawn(self, tensor: str, rank: int, own: Tensor) -> Tensor:
        """`(L, rank)`: the columns of a product that are drawn."""
        code = own[:, SUPPORT_TENSORS.index(tensor)]
        return torch.arange(rank, device=own.device) < torch.where(code[:, 0] == LORA, code[:, 1], 0)[:, None]

    def _right(self, tensor: str, parts: Mapping[Key, Tensor]) -> Tensor:
        up = parts.get((tensor, "up"))
        return self.base.new_zeros(len(self), 0, self.shape.in_features) if up is None else up

    def _bias(self, parts: Mapping[Key, Tensor], own: Tensor) -> Tensor:
        bias = self._vector("E", parts, own)
        if self.base_bias is not None:
            bias = bias + self.base_bias * (1 + self._vector("D", parts, own))
        if not self.has_prompt:
            return bias
        prompt = self._vector("C", parts, own)
        if self.prompt_rank:
            prompt = prompt + (self._left("C", parts, own) @ parts["C", "up"]).squeeze(-1)
        return bias + (self.base @ prompt[..., None]).squeeze(-1)

    @property
    def has_prompt(self) -> bool:
        """Whether the layers have a choice of C."""
        return any(tensor == "C" for tensor, _ in self.storages)

    def storage_gradients(self, grad: Tensor, parts: Mapping[Key, Tensor], codes: Tensor) -> dict[Key, Tensor]:
        """The gradients of the stacked storages of GLoRA's own forms from that of the factors, `(L, width)`: the
        transpose of `factors`. The others' are in `extra_gradients`."""
        own = codes[self.positions]
        scale, shift, bias, left, right, _ = self.shape.split(grad)
        ra = self.shape.scale_rank
        found: dict[Key, Tensor] = {}
        rb = ra + self.lora_rank
        self._products_back("A", found, parts, left[..., :ra], right[..., :ra, :], own)
        self._products_back("B", found, parts, left[..., ra:rb], right[..., ra:rb, :], own)
        lines = {"A": scale, "B": shift, "E": bias}
        if self.base_bias is not None:
            lines["D"] = bias * self.base_bias
        if self.has_prompt:
            lines["C"] = prompt = (bias[:, None] @ self.base).squeeze(1)
            if self.prompt_rank:
                up = self._left("C", parts, own).mT @ prompt[..., None]
                self._products_back("C", found, parts, prompt[..., None] * parts["C", "up"].mT, up, own)
        for tensor, line in lines.items():
            self._line_back(tensor, found, line, own)
        return found

    def extra_gradients(self, grad: Tensor, parts: Mapping[Key, Tensor], codes: Tensor) -> dict[Key, Tensor]:
        """The gradients of the trained storages of the extras from that of the factors, `(L, width)`."""
        parts_of = ((extra.tensor, extra.offered.parts.items()) for extra in self.extras.all)
        keys = [(tensor, name) for tensor, own in parts_of for name, part in own if part.trained]
        if not keys:
            return {}
        _, _, _, left, right, spectrum = self.shape.split(grad)
        first = self.shape.rank - self.extras.rank
        with torch.enable_grad():
            leaves = dict(parts) | {key: parts[key].detach().requires_grad_() for key in keys}
            columns = self.extras.columns(leaves, codes[self.positions])
        wanted = [leaves[key] for key in keys]
        upstream = left[..., first:], right[..., first:, :], spectrum
        # Without a spectrum, or without products, a column has no entries and hangs on nothing.
        given = [pair for pair in zip(columns, upstream, strict=True) if pair[0].requires_grad]
        outputs, gradients = zip(*given, strict=True)
        found = torch.autograd.grad(outputs, wanted, gradients, allow_unused=True, materialize_grads=True)
        return dict(zip(keys, found, strict=True))

    def _products_back(
        self,
        tensor: str,
        found: dict[Key, Tensor],
        parts: Mapping[Key, Tensor],
        left: Tensor,
        right: Tensor,
        own: Tensor,
    ) -> None:
        if (tensor, "down") in parts:
            found[tensor, "down"] = left * self._drawn(tensor, parts[tensor, "down"].shape[-1], own)[:, None]
            found[tensor, "up"] = right

    def _line_back(self, tensor: str, found: dict[Key, Tensor], line: Tensor, own: Tensor) -> None:
        """The gradients of a vector and a constant; if they are aliased, of the column from which they are read."""
        drawn = own[:, SUPPORT_TENSORS.index(tensor), 0, None]
        vector = torch.where(drawn == VECTOR, line, 0.0)
        constant = torch.where(drawn == CONSTANT, line, 0.0).sum(1, keepdim=True)
        if not self.aliased.get(tensor):
            for part, value in (("vector", vector), ("constant", constant)):
                if (tensor, part) in self.storages:
                    found[tensor, part] = value
            return
        vector[:, :1] += constant
        if (tensor, "vector") in self.storages:
            found[tensor, "vector"] = vector
        elif (tensor, "down") in found:
            found[tensor, "down"][..., 0] += vector


def banks_of(adapted: Mapping[str, AdaptedLayer]) -> list[Bank]:
    """Adapted layers, given in the space's order, stacked by what they have in common."""
    groups: dict[tuple[object, ...], list[int]] = {}
    names = list(adapted)
    for position, name in enumerate(names):
        layer = adapted[name]
        shapes = tuple((key, tuple(p.shape)) for key, p in storages(layer).items())
        aliased = tuple((tensor, layer.support_of(tensor).aliased) for tensor in layer.support)
        classes: tuple[object, ...] = tuple((tensor, *layer.support_of(tensor).offered) for tensor in layer.support)
        classes += tuple(
            (t, part.data_ptr(), tuple(part.shape))
            for t in layer.support
            for part in layer.support_of(t).shared_parts.values()
        )
        form = tuple(layer.base.weight.shape), is_spatial(layer), layer.base.bias is not None
        key = (form, shapes, aliased, classes)
        groups.setdefault(key, []).append(position)
    return [
        Bank([names[p] for p in positions], [adapted[names[p]] for p in positions], positions)
        for positions in groups.values()
    ]


def what_cannot_be_fused(adapted: Mapping[str, AdaptedLayer]) -> str | None:
    """Why these layers cannot be stacked in banks; None if they can."""
    tried: set[object] = set()
    for name, layer in adapted.items():
        if type(layer.base) not in (nn.Linear, nn.Conv2d):
            known = isinstance(layer.base, (nn.Linear, nn.Conv2d))
            return f"{name} is a {type(layer.base).__name__ if known else 'norm'}"
        offered = tuple(
            (t, choice, one.largest) for t in layer.support for choice, one in layer.support_of(t).offered.items()
        )
        if (layer.base.weight.shape, offered) in tried:
            continue
        tried.add((layer.base.weight.shape, offered))
        for tensor in layer.support:
            others = what_is_not_covered(layer.support_of(tensor).offered, layer.weight_view.detach()[None])
            if others:
                return f"{name} offers {', '.join(others)}"
        spectra = [choice for t in layer.support for choice in spectral_choices(layer.support_of(t).offered)]
        if len(spectra) > 1:
            return f"{name} offers {' and '.join(spectra)}, both spectra"
    return None


def geometry_of(layer: AdaptedLayer) -> Geometry | None:
    """The geometry of a layer; None if it is no convolution."""
    return Geometry.of(layer.base) if isinstance(layer.base, nn.Conv2d) else None


def is_spatial(layer: AdaptedLayer) -> bool:
    """Whether a layer is a convolution that is no product with tokens."""
    geometry = geometry_of(layer)
    return geometry is not None and not geometry.by_tokens


def storages(layer: AdaptedLayer) -> dict[Key, torch.nn.Parameter]:
    """The storages of one layer by support tensor and part."""
    found: dict[Key, torch.nn.Parameter] = {}
    for tensor in layer.support:
        own = dict(layer.support_of(tensor).named_parameters())
        found.update({(tensor, part): own[part] for part in PARTS if part in own})
        found.update({(tensor, part): value for part, value in own.items() if part not in PARTS})
    return found
