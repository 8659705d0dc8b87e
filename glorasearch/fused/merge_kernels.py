"""The Triton kernels of factors and merged weights; their equations in torch are `Bank.factors` and `gradients.merge`.

What a kernel does for a layer depends on the layer's row of the plan, which it reads from the device: a launch whose
work is not needed returns at once. So the sequence of launches is static and fits in a CUDA graph, while its cost
depends on the subnet that is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from glorasearch.choices import SUPPORT_TENSORS
from glorasearch.fused import layout
from glorasearch.fused.bank import Bank
from glorasearch.fused.extras import Key
from glorasearch.fused.kernel_layout import (
    BIAS,
    CONSTANT,
    DENSE,
    DOWN,
    EXTRA,
    LAYER_CODES,
    LAYER_CODES_PADDED,
    LINE,
    LORA,
    PLAN_STRIDE,
    PRODUCTS,
    SCALED,
    SHIFT,
    SHIFTED,
    SPECTRAL,
    UP,
    VALUE,
    VECTOR,
    A,
    B,
    C,
    D,
    E,
    drawn,
    drawn_rank,
    element_stride,
    left_row,
    right_start,
    storage,
)


@triton.jit
def _line(flat, table, choice, layer, index, mask, TENSOR: tl.constexpr):
    """A choice `vector` or `constant` at some indices, zeros where another choice is drawn."""
    vector = storage(flat, table, layer, TENSOR, LINE) + index * element_stride(table, TENSOR, LINE)
    constant = storage(flat, table, layer, TENSOR, VALUE) + index * element_stride(table, TENSOR, VALUE)
    choices = choice + 0 * index
    found = tl.load(vector, mask=mask & (choices == VECTOR), other=0.0)
    return found + tl.load(constant, mask=mask & (choices == CONSTANT), other=0.0)


@triton.jit
def _unchanged(codes, last, row):
    """Whether a layer has the choices that it had in `last`."""
    t = tl.arange(0, LAYER_CODES_PADDED)
    now = tl.load(codes + row + t, mask=t < LAYER_CODES, other=0)
    before = tl.load(last + row + t, mask=t < LAYER_CODES, other=0)
    return tl.sum((now != before).to(tl.int32), 0) == 0


@triton.jit
def _factors_kernel(
    flat, table, base_bias, codes, last, positions, factors, prompts, plan, outs, ins, width,
    RA: tl.constexpr, RB: tl.constexpr, RX: tl.constexpr, RC: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_PROMPT: tl.constexpr, THIN: tl.constexpr, ALL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The factors `(L, width)` of a subnet from the storages, without W0·C in the bias and without the `RX` columns and
    the spectrum of extras; the prompts `(L, in)`; and the plan.

    `table` says where the storages lie in `flat` (`layout`). Unless `ALL`, a layer whose choices are those of `last` is
    left unchanged.
    """
    layer = tl.program_id(0).to(tl.int64)
    row = tl.load(positions + layer) * LAYER_CODES
    if not ALL:  # noqa: SIM102 - the other test is compiled only where this one says so
        if _unchanged(codes, last, row):
            return
    o = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    i = o
    om, im = o < outs, i < ins
    own = factors + layer * width
    a, b = drawn(codes, row, A), drawn(codes, row, B)
    a_rank, b_rank = drawn_rank(codes, row, A), drawn_rank(codes, row, B)
    scale = _line(flat, table, a, layer, o, om, A)
    tl.store(own + o, scale, mask=om)
    tl.store(own + outs * SHIFT + o, _line(flat, table, b, layer, o, om, B), mask=om)
    bias = _line(flat, table, drawn(codes, row, E), layer, o, om, E)
    if HAS_BIAS:
        d = _line(flat, table, drawn(codes, row, D), layer, o, om, D)
        bias += tl.load(base_bias + layer * outs + o, mask=om, other=0.0) * (1.0 + d)
    tl.store(own + outs * BIAS + o, bias, mask=om)
    columns: tl.constexpr = RA + RB + RX
    left, right = own + left_row(outs, o, columns), own + right_start(outs, columns) + i
    for k in tl.static_range(RA):
        down = storage(flat, table, layer, A, DOWN) + o * RA + k
        tl.store(left + k, tl.load(down, mask=om & (0 * o + k < a_rank), other=0.0), mask=om)
        up = storage(flat, table, layer, A, UP) + k * ins + i
        tl.store(right + k * ins, tl.load(up, mask=im, other=0.0), mask=im)
    for k in tl.static_range(RB):
        down = storage(flat, table, layer, B, DOWN) + o * RB + k
        tl.store(left + RA + k, tl.load(down, mask=om & (0 * o + k < b_rank), other=0.0), mask=om)
        up = storage(flat, table, layer, B, UP) + k * ins + i
        tl.store(right + (RA + k) * ins, tl.load(up, mask=im, other=0.0), mask=im)
    if HAS_PROMPT:
        c = _line(flat, table, drawn(codes, row, C), layer, i, im, C)
        c_rank = drawn_rank(codes, row, C)
        for k in tl.static_range(RC):
            down = storage(flat, table, layer, C, DOWN) + i * RC + k
            up = tl.load(storage(flat, table, layer, C, UP) + k)
            c += tl.load(down, mask=im & (0 * i + k < c_rank), other=0.0) * up
        tl.store(prompts + layer * ins + i, c, mask=im)
    own_plan = plan + layer * PLAN_STRIDE
    if tl.program_id(1) == 0:
        if (a == LORA) | ((b == LORA) & (not THIN)):
            tl.store(own_plan + DENSE, 1)
        if b == LORA:
            tl.store(own_plan + PRODUCTS, 1)
        tl.store(own_plan + SCALED, ((a == CONSTANT) | (a == VECTOR)).to(tl.int32))
        tl.store(own_plan + SHIFTED, ((b == CONSTANT) | (b == VECTOR)).to(tl.int32))


@triton.jit
def _spectral(
    spectrum, left, right, o, i, om, im, ins,
    ENTRIES: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """A tile of left·diag(spectrum)·right."""
    acc = tl.zeros((BO, BI), tl.float32)
    for start in range(0, ENTRIES, BK):
        k = start + tl.arange(0, BK)
        km = k < ENTRIES
        p = tl.load(left + o[:, None] * ENTRIES + k[None, :], mask=om[:, None] & km[None, :], other=0.0)
        q = tl.load(right + k[:, None] * ins + i[None, :], mask=km[:, None] & im[None, :], other=0.0)
        p *= tl.load(spectrum + k, mask=km, other=0.0)[None, :]
        acc = tl.dot(p, q, acc, input_precision="tf32x3")
    return acc


@triton.jit
def _merge_kernel(
    base, factors, prompts, parts, codes, last, positions, weight, plan, bases_left, bases_right, outs, ins, width,
    RA: tl.constexpr, RB: tl.constexpr, RX: tl.constexpr, ENTRIES: tl.constexpr, HAS_PROMPT: tl.constexpr,
    ALL: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """A tile of W from the factors; and this tile's part of W0·C, `parts (L, tiles_in, out)`."""
    layer = tl.program_id(0).to(tl.int64)
    if not ALL:  # noqa: SIM102
        if _unchanged(codes, last, tl.load(positions + layer) * LAYER_CODES):
            return
    o = tl.program_id(1) * BO + tl.arange(0, BO)
    i = tl.program_id(2) * BI + tl.arange(0, BI)
    om, im = o < outs, i < ins
    both = om[:, None] & im[None, :]
    place = layer * outs * ins + o[:, None].to(tl.int64) * ins + i[None, :]
    w0 = tl.load(base + place, mask=both, other=0.0)
    own = factors + layer * width
    columns: tl.constexpr = RA + RB + RX
    left, right = own + left_row(outs, o, columns), own + right_start(outs, columns) + i
    gain = tl.zeros((BO, BI), tl.float32) + 1.0 + tl.load(own + o, mask=om, other=0.0)[:, None]
    for k in tl.static_range(RA):
        gain += tl.load(left + k, mask=om, other=0.0)[:, None] * tl.load(right + k * ins, mask=im, other=0.0)[None, :]
    w = w0 * gain + tl.load(own + outs * SHIFT + o, mask=om, other=0.0)[:, None]
    for k in tl.static_range(RA, RA + RB):
        w += tl.load(left + k, mask=om, other=0.0)[:, None] * tl.load(right + k * ins, mask=im, other=0.0)[None, :]
    if RX > 0:
        for k in range(RA + RB, RA + RB + tl.load(plan + layer * PLAN_STRIDE + EXTRA)):
            rows = tl.load(left + k, mask=om, other=0.0)
            w += rows[:, None] * tl.load(right + k * ins, mask=im, other=0.0)[None, :]
    if ENTRIES > 0:  # noqa: SIM102
        if tl.load(plan + layer * PLAN_STRIDE + SPECTRAL) != 0:
            w += _spectral(own + width - ENTRIES, bases_left, bases_right, o, i, om, im, ins, ENTRIES, BO, BI, BK)
    tl.store(weight + place, w.to(weight.dtype.element_ty), mask=both)
    if HAS_PROMPT:
        c = tl.load(prompts + layer * ins + i, mask=im, other=0.0)
        part = parts + (layer * tl.num_programs(2) + tl.program_id(2)) * outs + o
        tl.store(part, tl.sum(w0 * c[None, :], 1), mask=om)


def merge_into(
    bank: Bank,
    flat: Tensor,
    table: Tensor,
    codes: Tensor,
    weight: Tensor,
    bias: Tensor,
    factors: Tensor,
    plan: Tensor,
    *,
    parts: Mapping[Key, Tensor],
    last: Tensor | None = None,
) -> None:
    """Write W and b of every layer of a bank, `weight (L, out, in)` and `bias (L, out)`, its factors and its plan.

    `flat` holds the storages at the places of `table` (`Pool.tables`); `codes (layers, 5, 3)` are the choices; `factors
    (L, width)` and `plan (L, 6)`, a `blank_plan`, are those of `Bank.factors` and `Bank.plan`. Layers whose codes are
    those of `last` are left unchanged. The extras are computed from the stacked storages `parts`, by torch operations.
    """
    layers, outs, ins = bank.base.shape
    shape, extras = bank.shape, bank.extras
    plan.zero_()
    if not bank.shape.keeps_output:  # then every scale needs the dense gradient
        a = codes[bank.positions, SUPPORT_TENSORS.index("A"), 0]
        plan[:, layout.DENSE] = (a == layout.CONSTANT) | (a == layout.VECTOR)
    if bank.shape.spatial:  # and every shift
        b = codes[bank.positions, SUPPORT_TENSORS.index("B"), 0]
        plan[:, layout.DENSE] |= (b == layout.CONSTANT) | (b == layout.VECTOR)
    if extras.all:
        own = codes[bank.positions]
        _write_extras(bank, extras.columns(parts, own), factors)
        products, spectra = extras.drawn(own)
        plan[:, layout.DENSE] |= spectra if shape.thin_products else products | spectra
        plan[:, layout.PRODUCTS] = products
        plan[:, layout.EXTRA], plan[:, layout.SPECTRAL] = products * extras.rank, spectra
    prompts = torch.empty(layers, ins if bank.has_prompt else 0, device=flat.device)
    before = codes if last is None else last
    common = {
        "RA": shape.scale_rank, "RB": bank.lora_rank, "RX": extras.rank, "HAS_PROMPT": bank.has_prompt,
        "ALL": last is None,
    }  # fmt: skip
    _factors_kernel[(layers, triton.cdiv(max(outs, ins), 128))](
        flat, table, flat if bank.base_bias is None else bank.base_bias, codes, before, bank.positions, factors,
        prompts, plan, outs, ins, bank.width, RC=bank.prompt_rank,
        HAS_BIAS=bank.base_bias is not None, THIN=shape.thin_products, BLOCK=128, **common,
    )  # fmt: skip
    rows, columns = SPECTRAL_TILE if shape.entries else MERGE_TILE
    tiles = triton.cdiv(ins, columns)
    partial = torch.zeros(layers, tiles, outs if bank.has_prompt else 0, device=flat.device)
    _merge_kernel[(layers, triton.cdiv(outs, rows), tiles)](
        bank.base, factors, prompts, partial, codes, before, bank.positions, weight, plan, extras.left, extras.right,
        outs, ins, bank.width, ENTRIES=shape.entries, BO=rows, BI=columns, BK=SPECTRAL_STEP, **common,
    )  # fmt: skip
    total = bank.shape.split(factors)[layout.BIAS]
    if bank.has_prompt:  # in a fixed order, so that a candidate's scores are the same bits every time
        total += partial.sum(1)
    bias.copy_(total)


def _write_extras(bank: Bank, columns: tuple[Tensor, Tensor, Tensor], factors: Tensor) -> None:
    first = bank.shape.rank - bank.extras.rank
    _, _, _, left, right, spectrum = bank.shape.split(factors)
    left[..., first:].copy_(columns[0])
    right[..., first:, :].copy_(columns[1])
    spectrum.copy_(columns[2])


MERGE_TILE = 8, 256
"""Outputs and inputs of a tile of the merge."""
SPECTRAL_TILE = 32, 128
"""The same with spectra."""
SPECTRAL_STEP: Final = 16
"""Coefficients of a spectrum per step."""
