"""The Triton kernels against the equations in plain torch; without a GPU Triton's interpreter runs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from support.models import Layers
from torch import Tensor, nn

from glorasearch.fused import layout
from glorasearch.fused.gradients import merge, raw_gradient
from glorasearch.fused.layout import Shape, blank_plan
from glorasearch.fused.merged import MergedWeights
from glorasearch.fused.parts import Key, key_of
from glorasearch.fused.pool import pool_of
from glorasearch.space import SearchSpace, sample
from glorasearch.supernet import Supernet

pytest.importorskip("triton")
factor_gradients = pytest.importorskip("glorasearch.fused.factor_gradients")
merge_kernels = pytest.importorskip("glorasearch.fused.merge_kernels")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # without a GPU, conftest.py has turned the interpreter on

CHOICES = {
    "A": ["none", "constant", "vector", "lora:1", "lora:3"],
    "B": ["none", "constant", "vector", "lora:2", "lora:4"],
    "C": ["none", "vector", "lora:1", "lora:2"],
    "D": ["none", "constant", "vector"],
    "E": ["none", "constant", "vector"],
}
MORE = {
    "A": ["none", "vector", "wegeft:1", "wegeft:3"],
    "B": ["none", "lora:2", "fourier:5", "fourier:40", "dash:2:3", "tsd_init:2", "tsd:1:2"],
    "C": ["none", "vector"],
}
PLANS = {
    "spectral": [1, 0, 0, 4, 1],
    "dense": [1, 0, 0],
    "scaled": [0, 1, 0],
    "shifted": [0, 0, 1],
    "scaled, shifted": [0, 1, 1],
    "rows hidden": [0, 1, 1],
    "products": [0, 0, 0, 0, 0, 1],
    "scaled, products": [0, 1, 0, 4, 0, 1],
    "rows hidden, products": [0, 1, 1, 0, 0, 1],
    "bias only": [0, 0, 0],
}


def factors_of(shape: Shape, plan: list[int], generator: torch.Generator) -> Tensor:
    """Random factors, zeros where a layer with this plan has them."""
    factors = torch.randn(sum(shape.sizes), generator=generator) * 0.1
    scale, shift, _, left, *_ = shape.split(factors)
    if plan[0]:
        return factors
    left[:, : shape.scale_rank if len(plan) > 5 else None].zero_()
    if not plan[1]:
        scale.zero_()
    if not plan[2]:
        shift.zero_()
    return factors


def hide(factors: Tensor, shape: Shape) -> None:
    """Scale rows of the first and of the last block by next to nothing, one of them by zero."""
    scale = shape.split(factors)[0]
    scale[:2], scale[-1] = torch.tensor([-1.0, -1.04]), -0.97


@pytest.mark.parametrize(
    ("name", "narrow"),
    [*((name, False) for name in PLANS), *((name, True) for name in ("spectral", "dense", "scaled"))],
)
@pytest.mark.parametrize("processors", [3, 132])
@pytest.mark.parametrize(
    ("tokens", "outs", "ins", "ra", "rb"),
    [(150, 144, 80, 4, 4), (70, 40, 150, 2, 3), (70, 40, 30, 0, 4), (70, 40, 30, 3, 0)],
)
def test_gradients(
    monkeypatch: pytest.MonkeyPatch, name: str, processors: int,
    tokens: int, outs: int, ins: int, ra: int, rb: int, narrow: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(factor_gradients, "processors", lambda _: processors)
    monkeypatch.setattr(layout, "THIN_FROM", 1e9 if narrow else 0)
    plan = PLANS[name]
    shape = Shape(outs, ins, ra, rb, 70 if name == "spectral" else 0)
    generator = torch.Generator().manual_seed(0)
    factors = factors_of(shape, plan, generator)
    if name.startswith("rows hidden"):
        hide(factors, shape)
    base, x, dy = (torch.randn(*size, generator=generator) for size in ((outs, ins), (tokens, ins), (tokens, outs)))
    bases = torch.randn(outs, shape.entries, generator=generator), torch.randn(shape.entries, ins, generator=generator)
    y = x @ merge(base[None], factors[None], shape, bases)[0].T + shape.split(factors)[2]
    row = torch.tensor([*plan, 0, 0, 0][:6], dtype=torch.int32)
    wide = bases[0].double(), bases[1].double()
    wanted = raw_gradient(*(t.double() for t in (dy, x, y, base, factors)), row, shape, wide)
    tensors = [tensor.to(DEVICE) for tensor in (dy, x, y, base, factors, row)]
    found = factor_gradients.factor_gradient(*tensors, shape, (bases[0].to(DEVICE), bases[1].to(DEVICE))).cpu()
    parts = ("scale", "shift", "bias", "left", "right", "spectrum")
    for part, got, expected in zip(parts, shape.split(found), shape.split(wanted), strict=True):
        torch.testing.assert_close(got, expected.float(), rtol=1e-4, atol=1e-3, msg=lambda m, part=part: f"{part}: {m}")


def test_sums_over_tokens_that_nearly_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """In half precision what is seen of the inputs is rounded for a product; the rest of it is multiplied, too."""
    monkeypatch.setattr(layout, "THIN_FROM", 0)
    monkeypatch.setitem(factor_gradients._TYPES, torch.float16, factor_gradients.tl.float16)
    generator, shape = torch.Generator().manual_seed(0), Shape(40, 64, 2, 3)
    x, dy = (torch.randn(500, size, generator=generator) for size in (64, 40))
    x, dy = (x + 0.5).half(), (dy - dy.mean(0)).half()
    base, factors = torch.zeros(40, 64), torch.zeros(sum(shape.sizes))
    shape.split(factors)[3][:, 2:] = torch.randn(40, 3, generator=generator).half()
    shape.split(factors)[4][2:] = torch.randn(3, 64, generator=generator).half()
    row = torch.tensor([0, 0, 1, 0, 0, 1], dtype=torch.int32)
    wanted = raw_gradient(*(tensor.double() for tensor in (dy, x, dy, base, factors)), row, shape)
    tensors = [tensor.to(DEVICE) for tensor in (dy, x, dy, base, factors, row)]
    found = factor_gradients.factor_gradient(*tensors, shape).cpu()
    for part, place in (("shift", 1), ("left", 3), ("right", 4)):
        got, expected = shape.split(found)[place], shape.split(wanted)[place]
        error = float((got - expected).norm() / expected.norm())
        assert error < 2e-5, f"{part}: {error}"


class Switchable:
    """A kernel that is not launched within a part that is switched off, as a replay leaves it out."""

    needed: ClassVar[dict[Key, list[bool]]] = {}
    inside: ClassVar[list[Key]] = []
    left_out: ClassVar[list[int]] = []

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __getitem__(self, grid: Any) -> Any:
        if all(self.needed[key][0] for key in self.inside):
            return self._kernel[grid]
        self.left_out.append(self.inside[-1][1])
        return lambda *_, **__: None

    @classmethod
    @contextmanager
    def part(cls, plan: Tensor, column: int) -> Iterator[None]:
        cls.inside.append(key_of(plan, column))
        yield
        cls.inside.pop()


@pytest.mark.parametrize("thin_from", [0, 217])
def test_what_a_replay_leaves_out_changes_nothing(monkeypatch: pytest.MonkeyPatch, thin_from: int) -> None:
    """Of 25 subnets; memory that nothing was written to is NaN."""
    monkeypatch.setattr(layout, "THIN_FROM", thin_from)
    space = SearchSpace.from_dict({"name": "all", "layers": {"include": ["*"]}, "choices": CHOICES | {"B": MORE["B"]}})
    net = Supernet(two_layers(20, 30, True).to(DEVICE), space)
    for parameter in net.adapter_parameters().values():
        parameter.data.normal_(std=0.1)
    pool = pool_of(net)
    merged = MergedWeights(pool, torch.float32, training=True)
    ((bank, factors, plans),) = zip(pool.banks, merged.factors, merged.plans, strict=True)
    kernels = [name for name in vars(factor_gradients) if name.endswith("_kernel")]
    assert len(kernels) == 6
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    x, dy, y = (torch.randn(50, size, generator=generator).to(DEVICE) for size in (30, 20, 20))
    bases = bank.extras.left, bank.extras.right
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        for _ in range(25):
            codes = pool.codes(sample(net.space, rng))
            merged.fill(torch.tensor(codes, dtype=torch.int32, device=DEVICE))
            monkeypatch.setattr(Switchable, "needed", merged.needed([codes]))
            for base, row, plan in zip(bank.base, factors, plans, strict=True):
                arguments = dy, x, y, base, row, plan, bank.shape, bases
                whole = factor_gradients.factor_gradient(*arguments)
                with monkeypatch.context() as replay:
                    replay.setattr(factor_gradients, "part", Switchable.part)
                    for name in kernels:
                        replay.setattr(factor_gradients, name, Switchable(getattr(factor_gradients, name)))
                    found = factor_gradients.factor_gradient(*arguments)
                assert torch.isfinite(whole).all()
                torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)
    finally:
        torch.use_deterministic_algorithms(deterministic)
    assert set(Switchable.left_out) >= {layout.DENSE, layout.SCALED, layout.SHIFTED, layout.THIN}
    assert (layout.PRODUCTS in Switchable.left_out) == (thin_from == 0)
    Switchable.left_out.clear()


def two_layers(outs: int, ins: int, bias: bool) -> Layers:
    """Two layers of one shape."""
    return Layers({name: nn.Linear(ins, outs, bias) for name in ("first", "second")}, nn.Linear(outs, 3))


@pytest.mark.parametrize(("entangle", "thin_from"), [("untied", 0), ("reference", 217)])
@pytest.mark.parametrize(("outs", "ins", "bias"), [(20, 270, True), (9, 17, False), (12, 12, True)])
@pytest.mark.parametrize("choices", [CHOICES, {"A": ["vector", "none"], "E": ["constant", "vector"]}, MORE])
def test_merge(
    monkeypatch: pytest.MonkeyPatch, entangle: str, outs: int, ins: int, bias: bool, choices: dict[str, list[str]],
    thin_from: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(layout, "THIN_FROM", thin_from)
    space = SearchSpace.from_dict(
        {"name": "all", "entangle": entangle, "layers": {"include": ["*"]}, "choices": choices}
    )
    net = Supernet(two_layers(outs, ins, bias).to(DEVICE), space)
    for parameter in net.adapter_parameters().values():
        parameter.data.normal_(std=0.1)
    pool = pool_of(net)
    (bank,), (table,), (parts,) = pool.banks, pool.tables(), pool.stacked(pool.flat)
    bases = bank.extras.left, bank.extras.right
    rng = np.random.default_rng(0)
    for number in range(20):
        if number == 10 and ("A", "vector") in parts:
            parts["A", "vector"][:, 3] = -1.0  # a scale that vanishes
        codes = torch.tensor(pool.codes(sample(net.space, rng)), dtype=torch.int32, device=DEVICE)
        wanted = bank.factors(parts, codes)
        weight, b = torch.full_like(bank.base, torch.nan), torch.full((2, outs), torch.nan, device=DEVICE)
        factors = torch.full_like(wanted, torch.nan)
        plan = blank_plan(2, DEVICE).fill_(7)
        merge_kernels.merge_into(bank, pool.flat, table, codes, weight, b, factors, plan, parts=parts)
        torch.testing.assert_close(factors, wanted)
        torch.testing.assert_close(weight, merge(bank.base, wanted, bank.shape, bases))
        torch.testing.assert_close(b, bank.shape.split(wanted)[2])
        assert plan.tolist() == bank.plan(codes).tolist()


def test_only_layers_whose_choices_changed_are_merged() -> None:
    space = SearchSpace.from_dict({"name": "all", "layers": {"include": ["*"]}, "choices": CHOICES})
    net = Supernet(two_layers(12, 12, True).to(DEVICE), space)
    pool = pool_of(net)
    (bank,), (table,) = pool.banks, pool.tables()
    weight, bias = torch.zeros_like(bank.base), torch.zeros(2, 12, device=DEVICE)
    codes = torch.tensor(pool.codes(net.space.largest()), dtype=torch.int32, device=DEVICE)
    last = codes.clone()
    last[1, 4, 0] += 1
    factors, plan = torch.zeros(2, bank.width, device=DEVICE), blank_plan(2, DEVICE)
    parts = pool.stacked(pool.flat)[0]
    merge_kernels.merge_into(bank, pool.flat, table, codes, weight, bias, factors, plan, parts=parts, last=last)
    assert weight[0].count_nonzero() == 0
    torch.testing.assert_close(weight[1], bank.base[1])


@pytest.mark.parametrize(
    ("tile", "length", "found"), [(128, 768, 128), (128, 96, 128), (128, 64, 64), (128, 10, 16), (32, 40, 32)]
)
def test_a_tile_is_as_small_as_its_layer(tile: int, length: int, found: int) -> None:
    assert factor_gradients.at_most(tile, length) == found
