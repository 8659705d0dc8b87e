"""Every choice is a no-op at the start, to the bit; and, for some, when directions are chosen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from glorasearch.supernet import Supernet

FORMS = ("linear", "linear without bias", "qkv", "conv", "conv with groups", "depthwise", "circular")
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def outputs(bench: Any, supernet: Supernet, tensor: str, text: str, x: Tensor) -> list[Tensor]:
    """Active, merged, and active under autocast."""
    subnet = bench.subnet(supernet, {tensor: text})
    results = [bench.active(supernet, subnet, x), supernet.merged(subnet)(x).detach()]
    if x.dtype == torch.float32:
        with torch.autocast("cpu", torch.bfloat16):
            results.append(bench.active(supernet, subnet, x))
    return results


def originals(supernet: Supernet, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        results = [supernet(x), supernet(x)]
        if x.dtype == torch.float32:
            with torch.autocast("cpu", torch.bfloat16):
                results.append(supernet(x))
    return results


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("entangle", ["untied", "reference"])
def test_at_the_start(bench: Any, form: str, dtype: torch.dtype, entangle: str) -> None:
    supernet = bench.build(form, dtype=dtype, entangle=entangle)
    x = bench.images(supernet)
    expected = originals(supernet, x)
    for tensor, text, _ in bench.singles(supernet):
        assert same(outputs(bench, supernet, tensor, text, x), expected), (tensor, text)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_when_directions_are_chosen(bench: Any, form: str, dtype: torch.dtype) -> None:
    """Dash goes on as it was, d being zero; Init and TSD are the original layer again; TSD's second choice as Dash's.

    All of it from factors that have learned: before, no choice is a no-op.
    """
    supernet = bench.build(form, dtype=dtype)
    x = bench.images(supernet)
    expected = originals(supernet, x)
    texts = [text for text in bench.kinds["B"] if text.partition(":")[0] in ("dash", "tsd_init", "tsd")]
    with torch.no_grad():
        for name, parameter in supernet.adapter_parameters().items():
            if "gains" not in name:  # no gradient reaches them yet
                parameter.normal_(std=0.5)
    before = {text: outputs(bench, supernet, "B", text, x) for text in texts}
    assert not any(same(found, expected) for found in before.values())
    bench.settle(supernet)
    for text in texts:
        wanted = before[text] if text.startswith("dash") else expected
        assert same(outputs(bench, supernet, "B", text, x), wanted), text

    with torch.no_grad():
        for name, parameter in supernet.adapter_parameters().items():
            if "tsd_" in name and "gains" not in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.5)
    learned = {text: outputs(bench, supernet, "B", text, x) for text in texts if text.startswith("tsd:")}
    assert not any(same(found, expected) for found in learned.values())
    bench.settle(supernet)
    for text, wanted in learned.items():
        assert same(outputs(bench, supernet, "B", text, x), wanted), text
        directions = bench.layer(supernet).support_of("B").parts(text)["tsd_left"]
        assert (directions.norm(dim=0) > 0.9).all(), "they were chosen"


@pytest.mark.parametrize("form", ["linear", "circular"])
def test_what_parts_start_from(bench: Any, form: str) -> None:
    """Zeros, but for the second factors: Xavier uniform in r and columns; φ and `lora_qkv` uniform within 1/√in."""
    supernet = bench.build(form)
    ins = bench.layer(supernet).in_features
    xavier = ("up", "dash_up", "init_up", "tsd_up", "rep_down")
    bounds = dict.fromkeys(("phi", "qkv_up"), ins**-0.5) | dict.fromkeys(xavier, (6 / (3 + ins)) ** 0.5)
    random = set()
    for name, value in supernet.adapter_state().items():
        if name.startswith("head."):
            continue
        part, found = name.rpartition(".")[2], value.abs().max()
        bound = (6 / (3 + 1)) ** 0.5 if name == "layer.C.up" else bounds.get(part)
        if bound is None:
            assert found == 0, name
            continue
        random.add(part)
        assert found <= bound
        if value.numel() > 10:
            assert found > 0.7 * bound
            assert (value > 0).any()
            assert (value < 0).any()
    assert random == set(bounds)
