"""The Triton kernels of the gradient of a layer's factors, which `factor_gradients` launches.

What a kernel does for a layer depends on the layer's row of the plan, as in `merge_kernels`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from glorasearch.fused.kernel_layout import (
    BIAS,
    DENSE,
    PRODUCTS,
    SCALED,
    SHIFT,
    SHIFTED,
    SPECTRAL,
    left_row,
    right_start,
)

COUNTS = ["tokens", "span"]
"""Arguments that are no strides: a kernel is not compiled again for each kind of them (1, or divisible by 16)."""


@triton.jit
def reduce_kernel(
    found, base, factors, plan, grad, bases_left, bases_right, outs, ins, dtype: tl.constexpr, TAPS: tl.constexpr,
    RA: tl.constexpr, RB: tl.constexpr, TA: tl.constexpr, TB: tl.constexpr, ENTRIES: tl.constexpr, BO: tl.constexpr,
    BI: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A tile of G, which was stored with its channels last, reduced into the factors' gradients."""
    if tl.load(plan + DENSE) == 0:
        return
    o = tl.program_id(0) * BO + tl.arange(0, BO)
    i = tl.program_id(1) * BI + tl.arange(0, BI)
    both = (o < outs)[:, None] & (i < ins)[None, :]
    place = i % TAPS * (ins // TAPS) + i // TAPS
    g = tl.load(found + o[:, None].to(tl.int64) * ins + place[None, :], mask=both, other=0.0).to(tl.float32)
    _into_factors(
        g, base, factors, plan, grad, bases_left, bases_right, o, i, outs, ins, dtype, RA, RB, TA, TB, ENTRIES, BN
    )


@triton.jit(do_not_specialize=COUNTS)
def narrow_kernel(
    dy, x, base, factors, plan, grad, bases_left, bases_right, tokens, outs, ins, span, dtype: tl.constexpr,
    RA: tl.constexpr, RB: tl.constexpr, TA: tl.constexpr, TB: tl.constexpr, ENTRIES: tl.constexpr, BO: tl.constexpr,
    BI: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """A tile of G over `span` tokens, reduced into the factors' gradients at once; G is never stored.

    Programs that run together process the same tokens, so that these are read from memory once. The first tile of every
    row of tiles also sums dy.
    """
    if tl.load(plan + DENSE) == 0:
        return
    o = tl.program_id(0) * BO + tl.arange(0, BO)
    i = tl.program_id(1) * BI + tl.arange(0, BI)
    first = tl.program_id(2) * span
    last = tl.minimum(first + span, tokens)
    if tl.program_id(1) == 0:
        g, total = _tile(dy, x, o, i, first, last, outs, ins, True, BO, BI, BT, LEAST)
        column = tl.arange(0, LEAST)[None, :]
        at = grad + outs * BIAS + o[:, None] + 0 * column
        tl.atomic_add(at, total, mask=(o < outs)[:, None] & (column == 0), sem="relaxed")
    else:
        g, total = _tile(dy, x, o, i, first, last, outs, ins, False, BO, BI, BT, LEAST)
    _into_factors(
        g, base, factors, plan, grad, bases_left, bases_right, o, i, outs, ins, dtype, RA, RB, TA, TB, ENTRIES, BN
    )


@triton.jit
def _tile(
    dy, x, o, i, first, last, outs, ins, SUMS: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr, BT: tl.constexpr,
    LEAST: tl.constexpr,
):  # fmt: skip
    """A tile `(BO, BI)` of dyᵀ·x over some tokens, and the sum of dy as the columns `(BO, LEAST)` of a product."""
    om, im = o < outs, i < ins
    g = tl.zeros((BO, BI), tl.float32)
    total = tl.zeros((BO, LEAST), tl.float32)
    for start in range(first, last, BT):
        n = start + tl.arange(0, BT)
        nm = n < last
        a = tl.load(dy + n[:, None].to(tl.int64) * outs + o[None, :], mask=nm[:, None] & om[None, :], other=0.0)
        b = tl.load(x + n[:, None].to(tl.int64) * ins + i[None, :], mask=nm[:, None] & im[None, :], other=0.0)
        g = tl.dot(tl.trans(a), b, g, input_precision="ieee")
        if SUMS:
            total = tl.dot(tl.trans(a), tl.full((BT, LEAST), 1.0, a.dtype), total, input_precision="ieee")
    return g, total


@triton.jit
def _into_factors(
    acc, base, factors, plan, grad, bases_left, bases_right, o, i, outs, ins, dtype: tl.constexpr, RA: tl.constexpr,
    RB: tl.constexpr, TA: tl.constexpr, TB: tl.constexpr, ENTRIES: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Add what a tile `acc` of G, at outputs `o` and inputs `i`, gives to the gradients of the factors."""
    om, im = o < outs, i < ins
    ta, tb = tl.arange(0, TA), tl.arange(0, TB)
    w = tl.load(base + o[:, None].to(tl.int64) * ins + i[None, :], mask=om[:, None] & im[None, :], other=0.0)
    columns: tl.constexpr = RA + RB
    left = left_row(outs, o[:, None], columns)
    right = right_start(outs, columns)
    scaled, plain = (acc * w).to(dtype), acc.to(dtype)
    _product(scaled, factors, grad, grad, left + ta[None, :], right, o, i, ta, outs, ins, dtype, RA, TA)
    left_b, right_b = left + RA + tb[None, :], right + RA * ins
    _product(plain, factors, grad, grad + outs * SHIFT, left_b, right_b, o, i, tb, outs, ins, dtype, RB, TB)
    if ENTRIES > 0:  # noqa: SIM102 - compiled only where there is a spectrum
        if tl.load(plan + SPECTRAL) != 0:
            at = grad + right + columns * ins
            for start in range(0, ENTRIES, BN):
                k = start + tl.arange(0, BN)
                km = k < ENTRIES
                q = tl.load(bases_right + k[None, :] * ins + i[:, None], mask=km[None, :] & im[:, None], other=0.0)
                rows = tl.dot(plain, q.to(dtype), input_precision="ieee")
                p = tl.load(bases_left + o[:, None] * ENTRIES + k[None, :], mask=km[None, :] & om[:, None], other=0.0)
                tl.atomic_add(at + k, tl.sum(rows * p, 0), mask=km, sem="relaxed")


@triton.jit
def _product(
    g, factors, grad, total, left, right, o, i, t, outs, ins, dtype: tl.constexpr, R: tl.constexpr, T: tl.constexpr
):
    """Multiply `g (BO, BI)` by `[right; 1]ᵀ` and by `leftᵀ`: the gradients of `left`, of the rows' sums, of `right`."""
    om, im = o < outs, i < ins
    column = t[None, :] * ins + i[:, None]
    q = tl.load(factors + right + column, mask=(t < R)[None, :] & im[:, None], other=0.0)
    q = tl.where((t == R)[None, :] & im[:, None], 1.0, q)
    rows = tl.dot(g, q.to(dtype), input_precision="ieee")
    tl.atomic_add(grad + left, rows, mask=(t < R)[None, :] & om[:, None], sem="relaxed")
    at_total = total + o[:, None] + 0 * t[None, :]
    tl.atomic_add(at_total, rows, mask=(t == R)[None, :] & om[:, None], sem="relaxed")
    if R > 0:
        p = tl.load(factors + left, mask=(t < R)[None, :] & om[:, None], other=0.0).to(dtype)
        columns = tl.dot(tl.trans(p), g, input_precision="ieee")
        at = grad + right + t[:, None] * ins + i[None, :]
        tl.atomic_add(at, columns, mask=(t < R)[:, None] & im[None, :], sem="relaxed")


@triton.jit
def token_sums_kernel(
    dy, y, seen_inputs, factors, plan, grad, tokens, outs, span, least, PLANNED: tl.constexpr, THIN: tl.constexpr,
    RA: tl.constexpr, RB: tl.constexpr, TB: tl.constexpr, TO: tl.constexpr, TN: tl.constexpr,
):  # fmt: skip
    """Over `span` tokens the sum of dy, of a layer that needs G.

    `THIN`: of one that does not, and the sum of dy ⊙ y where A scales rows and these are not hidden, and dyᵀ·(x·[Uᵀ,
    1]) where products or B shift them, from what `input_products_kernel` gives; that takes more registers, and so
    longer. Without a plan, of any layer.
    """
    scaled, shifted, products = False, False, False
    if PLANNED:  # noqa: SIM102 - the other test is compiled only where this one says so
        if (tl.load(plan + DENSE) != 0) == THIN:
            return
    if THIN:
        scaled, shifted = tl.load(plan + SCALED) != 0, tl.load(plan + SHIFTED) != 0
        products = tl.load(plan + PRODUCTS) != 0
    o = tl.program_id(0) * TO + tl.arange(0, TO)
    om = o < outs
    t = tl.arange(0, TB)
    first = tl.program_id(1) * span
    last = tl.minimum(first + span, tokens)
    total = tl.zeros((TN, TO), tl.float32)
    seen = tl.zeros((TN, TO), tl.float32)
    moved = tl.zeros((TO, TB), tl.float32)
    for start in range(first, last, TN):
        n = start + tl.arange(0, TN)
        nm = n < last
        place = n[:, None].to(tl.int64) * outs + o[None, :]
        given = tl.load(dy + place, mask=nm[:, None] & om[None, :], other=0.0)
        a = given.to(tl.float32)
        total += a
        if THIN:
            if scaled:
                seen += a * tl.load(y + place, mask=nm[:, None] & om[None, :], other=0.0).to(tl.float32)
            if shifted | products:
                z = tl.load(seen_inputs + n[:, None] * TB + t[None, :], mask=nm[:, None], other=0.0)
                moved = tl.dot(tl.trans(given), z.to(given.dtype), moved, input_precision="ieee")
    tl.atomic_add(grad + outs * BIAS + o, tl.sum(total, 0), mask=om, sem="relaxed")
    if THIN:
        if scaled:
            shown = om & (tl.abs(1.0 + tl.load(factors + o, mask=om, other=0.0)) >= least)
            tl.atomic_add(grad + o, tl.sum(seen, 0), mask=shown, sem="relaxed")
        column = t % (RB + 1)
        own = t < 2 * (RB + 1)
        if shifted:
            at = grad + outs * SHIFT + o[:, None] + 0 * t[None, :]
            tl.atomic_add(at, moved, mask=om[:, None] & (own & (column == RB))[None, :], sem="relaxed")
        if products:
            at = grad + left_row(outs, o[:, None], RA + RB) + RA + column[None, :]
            tl.atomic_add(at, moved, mask=om[:, None] & (own & (column < RB))[None, :], sem="relaxed")


@triton.jit(do_not_specialize=COUNTS)
def input_products_kernel(
    x, factors, found, plan, tokens, outs, ins, RA: tl.constexpr, RB: tl.constexpr, TB: tl.constexpr,
    BN: tl.constexpr, BI: tl.constexpr,
):  # fmt: skip
    """`found (tokens, TB)`, x·[Uᵀ, 1], for a layer that does not need G and whose weight products or B shift.

    In the first `RB + 1` columns as rounded to the dtype of x, in the next ones what that left: a sum over tokens that
    nearly cancel would show the rounding.
    """
    if (tl.load(plan + DENSE) != 0) | ((tl.load(plan + SHIFTED) == 0) & (tl.load(plan + PRODUCTS) == 0)):
        return
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    t = tl.arange(0, TB)
    nm = n < tokens
    right = factors + right_start(outs, RA + RB) + RA * ins
    column = t % (RB + 1)
    own = t < 2 * (RB + 1)
    acc = tl.zeros((BN, TB), tl.float32)
    for start in range(0, ins, BI):
        i = start + tl.arange(0, BI)
        im = i < ins
        z = tl.load(x + n[:, None].to(tl.int64) * ins + i[None, :], mask=nm[:, None] & im[None, :], other=0.0)
        product = (own & (column < RB))[None, :] & im[:, None]
        q = tl.load(right + column[None, :] * ins + i[:, None], mask=product, other=0.0)
        q = tl.where((own & (column == RB))[None, :] & im[:, None], 1.0, q)
        acc = tl.dot(z, q.to(z.dtype), acc, input_precision="ieee")
    rounded = acc.to(x.dtype.element_ty).to(tl.float32)
    tl.store(
        found + n[:, None] * TB + t[None, :], tl.where((t > RB)[None, :], acc - rounded, rounded), mask=nm[:, None]
    )


@triton.jit(do_not_specialize=COUNTS)
def right_products_kernel(
    dy, x, factors, plan, grad, tokens, outs, ins, RA: tl.constexpr, RB: tl.constexpr, TB: tl.constexpr,
    BN: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr,
):  # fmt: skip
    """dU = (dy·D)ᵀ·x over `BN` tokens, for a layer that does not need G and whose weight products shift."""
    if (tl.load(plan + DENSE) != 0) | (tl.load(plan + PRODUCTS) == 0):
        return
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    t = tl.arange(0, TB)
    nm = n < tokens
    s = tl.zeros((BN, TB), tl.float32)
    for start in range(0, outs, BO):
        o = start + tl.arange(0, BO)
        om = o < outs
        a = tl.load(dy + n[:, None].to(tl.int64) * outs + o[None, :], mask=nm[:, None] & om[None, :], other=0.0)
        at = factors + left_row(outs, o[:, None], RA + RB) + RA + t[None, :]
        p = tl.load(at, mask=om[:, None] & (t < RB)[None, :], other=0.0)
        s = tl.dot(a, p.to(a.dtype), s, input_precision="ieee")
    rounded = s.to(dy.dtype.element_ty)
    rest = (s - rounded.to(tl.float32)).to(dy.dtype.element_ty)
    right = grad + right_start(outs, RA + RB) + RA * ins
    for start in range(0, ins, BI):
        i = start + tl.arange(0, BI)
        im = i < ins
        z = tl.load(x + n[:, None].to(tl.int64) * ins + i[None, :], mask=nm[:, None] & im[None, :], other=0.0)
        found = tl.dot(tl.trans(rounded), z, input_precision="ieee")
        found = tl.dot(tl.trans(rest), z, found, input_precision="ieee")
        at = right + t[:, None] * ins + i[None, :]
        tl.atomic_add(at, found, mask=(t < RB)[:, None] & im[None, :], sem="relaxed")


@triton.jit(do_not_specialize=COUNTS)
def hidden_rows_kernel(
    dy, x, base, factors, plan, grad, tokens, outs, ins, span, least, BO: tl.constexpr, BI: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """For rows that A scales by next to nothing, over `span` tokens: H·1ᵀ, the gradient of their scale."""
    if (tl.load(plan + DENSE) != 0) | (tl.load(plan + SCALED) == 0):
        return
    o = tl.program_id(0) * BO + tl.arange(0, BO)
    scale = tl.load(factors + o, mask=o < outs, other=0.0)
    hidden = (o < outs) & (tl.abs(1.0 + scale) < least)
    if tl.max(hidden.to(tl.int32), 0) == 0:
        return
    first = tl.program_id(1) * span
    last = tl.minimum(first + span, tokens)
    total = tl.zeros((BO,), tl.float32)
    for left in range(0, ins, BI):
        i = left + tl.arange(0, BI)
        im = i < ins
        acc = tl.zeros((BO, BI), tl.float32)
        for start in range(first, last, BN):
            n = start + tl.arange(0, BN)
            nm = (n < last)[:, None]
            a = tl.load(dy + n[:, None].to(tl.int64) * outs + o[None, :], mask=nm & hidden[None, :], other=0.0)
            b = tl.load(x + n[:, None].to(tl.int64) * ins + i[None, :], mask=nm & im[None, :], other=0.0)
            acc = tl.dot(tl.trans(a), b, acc, input_precision="ieee")
        w = tl.load(base + o[:, None].to(tl.int64) * ins + i[None, :], mask=hidden[:, None] & im[None, :], other=0.0)
        total += tl.sum(acc * w, 1)
    tl.atomic_add(grad + o, total, mask=hidden, sem="relaxed")
