"""The gradient of a layer's factors on a GPU: `gradients` in cuBLAS's and cuDNN's products and kernels of Triton.

The dense gradient G of a layer is stored, in the activations' dtype, and reduced into the factors' gradients at once;
that of a narrow one (`Shape.narrow`) is not even stored. A captured step leaves out what the drawn choices do not need
(`parts`).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from glorasearch.fused.geometry import Geometry
from glorasearch.fused.gradient_kernels import (
    hidden_rows_kernel,
    input_products_kernel,
    narrow_kernel,
    reduce_kernel,
    right_products_kernel,
    token_sums_kernel,
)
from glorasearch.fused.gradients import Bases
from glorasearch.fused.layout import DENSE, LEAST_SCALE, PRODUCTS, SCALED, SHIFTED, THIN, Shape
from glorasearch.fused.parts import part


def factor_gradient(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    base: Tensor,
    factors: Tensor,
    plan: Tensor,
    shape: Shape,
    bases: Bases | None = None,
) -> Tensor:
    """The raw gradient `(width,)` of the factors: `gradients.raw_gradient`, with its arguments.

    `dy (N, out)`, `x (N, in)` and, if it is kept, `y (N, out)` in one dtype; `base`, `factors` float32. Partial sums
    are added in no fixed order, as in cuDNN's attention, so runs on a GPU are not reproducible to the last bit.
    """
    dy, x = dy.contiguous(), x.contiguous()
    tokens, outs, ins = len(dy), shape.out_features, shape.in_features
    grad = torch.zeros_like(factors)
    layer, widths = _Layer(base, factors, plan, grad, shape, bases), _thin_widths(shape)
    seen_inputs = torch.empty(tokens, widths["TB"], dtype=torch.float32, device=dy.device)
    with part(plan, DENSE):
        if shape.narrow:
            _narrow(dy, x, layer)
        else:
            _reduce(dy.T @ x, 1, layer)
            _sum_tokens(dy, dy, dy, factors, plan, grad)
    with part(plan, SHIFTED):
        tile_n, tile_i = _tile(INPUT_TILE, x.dtype)
        input_products_kernel[(triton.cdiv(tokens, tile_n),)](
            x, factors, seen_inputs, plan, tokens, outs, ins, BN=tile_n, BI=tile_i, num_warps=INPUT_WARPS, **widths
        )
    if shape.thin_products:
        with part(plan, PRODUCTS):
            tile_n, tile_o, tile_i = _tile(RIGHT_TILE, dy.dtype)
            right_products_kernel[(triton.cdiv(tokens, tile_n),)](
                dy, x, factors, plan, grad, tokens, outs, ins, RA=shape.scale_rank, RB=shape.shift_rank,
                TB=_columns(shape.shift_rank), BN=tile_n, BO=tile_o, BI=tile_i, num_warps=RIGHT_WARPS,
            )  # fmt: skip
    if y is not None:
        with part(plan, SCALED):
            tile_o, tile_i, tile_n = HIDDEN_TILE
            blocks, span = _blocks(outs, tile_o, tokens, tile_n, dy.device)
            hidden_rows_kernel[blocks](
                dy, x, base, factors, plan, grad, tokens, outs, ins, span, LEAST_SCALE, BO=tile_o, BI=tile_i, BN=tile_n
            )
    with part(plan, THIN):
        _sum_tokens(dy, dy if y is None else y.contiguous(), seen_inputs, factors, plan, grad, widths)
    return grad


def convolution_factor_gradient(
    dy: Tensor,
    x: Tensor,
    filters: Tensor,
    base: Tensor,
    factors: Tensor,
    plan: Tensor,
    shape: Shape,
    geometry: Geometry,
    bases: Bases | None = None,
) -> Tensor:
    """The raw gradient `(width,)` of a spatial convolution's factors: `gradients.convolution_gradient`, with its
    arguments, in the dtypes of `factor_gradient`.

    Activations have their channels last, so they are tokens: `dy (tokens, out)`. The gradient of the filters is
    cuDNN's; kernels of our own that never stored it took two to six times as long (docs/speed-notes.md).
    """
    dy, x, filters = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (dy, x, filters))
    grad = torch.zeros_like(factors)
    with part(plan, DENSE):
        found = geometry.weight_gradient(dy, x, filters).contiguous(memory_format=torch.channels_last)
        _reduce(found, geometry.taps, _Layer(base, factors, plan, grad, shape, bases))
    rows = dy.permute(0, 2, 3, 1).reshape(-1, shape.out_features)
    _sum_tokens(rows, rows, rows, factors, None, grad)
    return grad


def _sum_tokens(
    dy: Tensor,
    y: Tensor,
    seen_inputs: Tensor,
    factors: Tensor,
    plan: Tensor | None,
    grad: Tensor,
    thin: dict[str, int] | None = None,
) -> None:
    """Add what `token_sums_kernel` gives to `grad`; without `thin` widths that is the sum of dy, of a layer that needs
    G, and without a plan of any layer."""
    tokens, outs = dy.shape
    (columns, rows), warps = (TOTAL_TILE, TOTAL_WARPS) if thin is None else (THIN_TILE, THIN_WARPS)
    blocks, span = _blocks(outs, columns, tokens, rows, dy.device)
    given = grad if plan is None else plan
    token_sums_kernel[blocks](
        dy, y, seen_inputs, factors, given, grad, tokens, outs, span, LEAST_SCALE, PLANNED=plan is not None,
        THIN=thin is not None, TO=columns, TN=rows, num_warps=warps, **(thin or NOTHING_THIN),
    )  # fmt: skip


def _blocks(outs: int, columns: int, tokens: int, rows: int, device: torch.device) -> tuple[tuple[int, int], int]:
    """Blocks of outputs, parts of the tokens, and the tokens of a part, with which a sum over tokens fills the card."""
    blocks = triton.cdiv(outs, columns)
    span = triton.cdiv(triton.cdiv(tokens, max(1, SUM_WAVES * processors(device) // blocks)), rows) * rows
    return (blocks, triton.cdiv(tokens, span)), span


def _reduce(found: Tensor, taps: int, layer: _Layer) -> None:
    """Add what a stored G gives to the layer's gradient, if its plan asks for it.

    `found`, in the activations' dtype, is `(out, taps, in / taps)` in memory, as filters with their channels last are.
    """
    outs, ins = layer.base.shape
    tile_o, tile_i = (at_most(size, length) for size, length in zip(REDUCE_TILE, (outs, ins), strict=True))
    reduce_kernel[(triton.cdiv(outs, tile_o), triton.cdiv(ins, tile_i))](
        found, *layer.tensors, outs, ins, TAPS=taps, BO=tile_o, BI=tile_i, num_warps=REDUCE_WARPS,
        **layer.constants(found.dtype),
    )  # fmt: skip


def _narrow(dy: Tensor, x: Tensor, layer: _Layer) -> None:
    """Add what G and the sum of dy give to the layer's gradient, if its plan asks for them.

    The tokens are cut into as many parts as fill the card, of `NARROW_BLOCKS` blocks at least.
    """
    tokens, (outs, ins) = len(dy), layer.base.shape
    tile_o, tile_i, block = _tile(NARROW_TILE, dy.dtype)
    tile_o, tile_i = at_most(tile_o, outs), at_most(tile_i, ins)
    tiles = triton.cdiv(outs, tile_o), triton.cdiv(ins, tile_i)
    parts = min(NARROW_WAVES * processors(dy.device) // (tiles[0] * tiles[1]), tokens // (NARROW_BLOCKS * block))
    span = triton.cdiv(triton.cdiv(tokens, max(1, parts)), block) * block
    narrow_kernel[(*tiles, triton.cdiv(tokens, span))](
        dy, x, *layer.tensors, tokens, outs, ins, span, BO=tile_o, BI=tile_i, BT=block, LEAST=LEAST_COLUMNS,
        num_warps=NARROW_WARPS, num_stages=NARROW_STAGES, **layer.constants(dy.dtype),
    )  # fmt: skip


class _Layer(NamedTuple):
    """What G is reduced with, and the gradient that it is added to."""

    base: Tensor
    factors: Tensor
    plan: Tensor
    grad: Tensor
    shape: Shape
    bases: Bases | None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """For a kernel that ends in `_into_factors`; without a spectrum its matrices are not read."""
        return self.base, self.factors, self.plan, self.grad, *(self.bases or (self.base, self.base))

    def constants(self, dtype: torch.dtype) -> dict[str, Any]:
        """For such a kernel, with activations of this dtype."""
        shape = self.shape
        return {
            "dtype": _TYPES[dtype],
            "RA": shape.scale_rank,
            "RB": shape.shift_rank,
            "TA": _columns(shape.scale_rank + 1),
            "TB": _columns(shape.shift_rank + 1),
            "ENTRIES": shape.entries,
            "BN": SPECTRAL_STEP,
        }


def _thin_widths(shape: Shape) -> dict[str, int]:
    """Ranks of the products that a layer without G has, and the columns of `x·[Uᵀ, 1]` in its two parts."""
    if not shape.thin_products:
        return NOTHING_THIN
    return {"RA": shape.scale_rank, "RB": shape.shift_rank, "TB": _columns(2 * (shape.shift_rank + 1))}


def _columns(count: int) -> int:
    """So many, padded to what tensor cores take."""
    return max(LEAST_COLUMNS, int(triton.next_power_of_2(count)))


def _tile(tile: tuple[int, ...], dtype: torch.dtype) -> tuple[int, ...]:
    """The tile in this dtype of one that was chosen in bfloat16: in float32 it is half as long each way.

    Otherwise it would not fit into the 99 KiB of shared memory that some cards have (`layout.THIN_RANK`).
    """
    return tile if dtype.itemsize == 2 else tuple(size // 2 for size in tile)


REDUCE_TILE, REDUCE_WARPS = (64, 128), 4
"""Outputs and inputs of a tile of a stored gradient."""
NARROW_TILE, NARROW_WARPS, NARROW_STAGES = (128, 128, 32), 4, 5
"""Outputs, inputs and tokens of a tile of a gradient that is reduced where it is formed."""
NARROW_WAVES, NARROW_BLOCKS = 2, 4
"""Programs per multiprocessor of these, and blocks of tokens that one multiplies, if there are as many."""
SPECTRAL_STEP = 32
"""Coefficients of a spectrum per step."""
TOTAL_TILE, TOTAL_WARPS = (64, 64), 8
"""Outputs and tokens of a tile of the sum of dy alone."""
THIN_TILE, THIN_WARPS = (64, 32), 4
"""The same of all sums over tokens; these take more registers."""
SUM_WAVES = 4
"""Programs per multiprocessor of both."""
HIDDEN_TILE = 64, 64, 32
"""Outputs, inputs and tokens of a tile of the hidden rows."""
INPUT_TILE, INPUT_WARPS = (64, 128), 4
"""Tokens and inputs of a tile of x·[Uᵀ, 1]."""
RIGHT_TILE, RIGHT_WARPS = (128, 128, 128), 8
"""Tokens, outputs and inputs of the tiles of (dy·D)ᵀ·x."""
LEAST_COLUMNS = 16
"""The fewest columns of a tensor core's operand: the ranks and a column of ones are padded to it."""
NOTHING_THIN = {"RA": 0, "RB": 0, "TB": LEAST_COLUMNS}
"""`_thin_widths` of a layer all of whose products want G."""
_TYPES = {torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


@functools.cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; on a CPU, where Triton interprets the kernels, those of an H100."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def at_most(tile: int, length: int) -> int:
    """A tile no larger than it has to be, and no smaller than tensor cores take."""
    return min(tile, _columns(length))
