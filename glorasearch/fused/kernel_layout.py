"""`layout` for the Triton kernels: its numbers as compile-time constants, and helpers that find things.

Offsets into a table or a row of codes are compile-time constants; those into factors depend on the layer's shape.
"""

from __future__ import annotations

import triton
import triton.language as tl

from glorasearch.choices import SUPPORT_TENSORS
from glorasearch.fused import layout

A, B, C, D, E = (tl.constexpr(tensor) for tensor in range(len(SUPPORT_TENSORS)))
CONSTANT, VECTOR, LORA = (tl.constexpr(code) for code in (layout.CONSTANT, layout.VECTOR, layout.LORA))
DOWN, UP, LINE, VALUE = (tl.constexpr(part) for part in (layout.DOWN, layout.UP, layout.LINE, layout.VALUE))
PARTS, ENTRY_WIDTH = tl.constexpr(len(layout.PARTS)), tl.constexpr(layout.ENTRY_WIDTH)
CODE_WIDTH = tl.constexpr(layout.CODE_WIDTH)
LAYER_CODES = tl.constexpr(len(SUPPORT_TENSORS) * layout.CODE_WIDTH)
"""Codes of one layer."""
LAYER_CODES_PADDED = tl.constexpr(triton.next_power_of_2(LAYER_CODES.value))
PLAN_STRIDE = tl.constexpr(layout.PLAN_STRIDE)
DENSE, SCALED, SHIFTED = (tl.constexpr(column) for column in (layout.DENSE, layout.SCALED, layout.SHIFTED))
EXTRA, SPECTRAL = tl.constexpr(layout.EXTRA), tl.constexpr(layout.SPECTRAL)
PRODUCTS = tl.constexpr(layout.PRODUCTS)
SHIFT, BIAS, LINES = tl.constexpr(layout.SHIFT), tl.constexpr(layout.BIAS), tl.constexpr(layout.LINES)


@triton.jit
def drawn(codes, row, TENSOR: tl.constexpr):
    """The code of the choice class that a layer draws for a support tensor; `row` is where the layer's codes begin."""
    return tl.load(codes + row + TENSOR * CODE_WIDTH)


@triton.jit
def drawn_rank(codes, row, TENSOR: tl.constexpr):
    """The rank of the `lora` that a layer draws for a support tensor; 0 if it draws another choice class."""
    return tl.where(drawn(codes, row, TENSOR) == LORA, tl.load(codes + row + TENSOR * CODE_WIDTH + 1), 0)


@triton.jit
def storage(flat, table, layer, TENSOR: tl.constexpr, PART: tl.constexpr):
    """The first element of a layer's part of a support tensor."""
    entry = table + (TENSOR * PARTS + PART) * ENTRY_WIDTH
    return flat + tl.load(entry) + layer * tl.load(entry + 1)


@triton.jit
def element_stride(table, TENSOR: tl.constexpr, PART: tl.constexpr):
    """The stride of the elements of that part."""
    return tl.load(table + (TENSOR * PARTS + PART) * ENTRY_WIDTH + 2)


@triton.jit
def left_row(outs, o, RANK: tl.constexpr):
    """Where the row of `left` of an output begins in a layer's factors."""
    return outs * LINES + o * RANK


@triton.jit
def right_start(outs, RANK: tl.constexpr):
    """Where `right` begins in a layer's factors."""
    return outs * LINES + outs * RANK
