"""Variants change what they say they change: exact ones nothing, float8 as much as it rounds."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F


def test_float8_is_rounded_row_by_row(benches) -> None:
    """Rows of very different size keep three bits each, and a product is that of the rounded numbers."""
    float8 = benches("variant_float8")
    draws = torch.Generator().manual_seed(0)
    x = (
        torch.randn(5, 64, dtype=torch.float64, generator=draws)
        * torch.tensor([1e-3, 1.0, 10.0, 1e3, 1e5], dtype=torch.float64)[:, None]
    )
    values, scales = float8.quantise(x)
    assert values.dtype == torch.float8_e4m3fn
    rounded = values.double() * scales
    large = x.abs() > x.abs().amax(1, keepdim=True) / 100
    assert ((rounded - x).abs() / x.abs())[large].max() <= 2**-4 * 1.01

    weight, bias = torch.randn(7, 64, generator=draws), torch.randn(7, generator=draws)
    found = float8.product(x.float(), float8.quantise(weight), bias)
    own = float8.quantise(weight)
    expected = rounded @ (own.values.double() * own.scales).t() + bias
    assert ((found - expected).norm(dim=1) / expected.norm(dim=1)).max() < 1e-5
    exact = F.linear(x.float(), weight, bias)
    assert 0 < ((found - exact).norm(dim=1) / exact.norm(dim=1)).mean() < 0.06


def test_a_run_says_what_each_variant_changes(benches, tmp_path, monkeypatch) -> None:
    """On a CPU: exact ones are the same to the bit, float8's losses and logits near the product's, classes the same."""
    bench, path = benches("bench_variants"), tmp_path / "variants.json"
    names = ["once more as it is", "float8 with frozen weights", "float8 forward only", "patches by a convolution"]
    names += ["dense gradients beside the backward pass", "banks merged side by side"]
    program = ["bench_variants.py", "--device", "cpu", "--size", "tiny", "--json", str(path), "--variants", *names]
    monkeypatch.setattr("sys.argv", program)
    bench.main()
    rows = json.loads(path.read_text("utf-8"))["rows"]
    assert list(dict.fromkeys(row["variant"] for row in rows)) == [v.name for v in bench.VARIANTS if v.name in names]
    changes = {(row["kind"], row["variant"]): row["changes"] for row in rows}
    for variant in bench.VARIANTS:
        for kind in ("step", "candidate"):
            if variant.name in names and variant.exact and getattr(variant, kind) is not None:
                assert changes[kind, variant.name] == "the same to the bit"
    loss = changes["step", "float8 with frozen weights"]
    assert 0 < float(loss.split()[-2]) < 0.02
    logits = changes["candidate", "float8 with frozen weights"]
    assert 0 < float(logits.split()[3]) < 10
    assert changes["candidate", "patches by a convolution"] == "the same to the bit", "as it is on a CPU"


def test_a_float8_step_has_the_gradients_of_its_rounded_products(benches) -> None:
    """`dx` is the product with the rounded weight; the factors' gradient is that of the inputs as they came."""
    bench = benches("bench_variants")
    one = bench.Bench("tiny", "cpu")
    variants = {variant.name: variant for variant in bench.VARIANTS}
    plain, rounded = (
        bench.made("step", one, variants[name])._one for name in ("once more as it is", "float8 with frozen weights")
    )
    subnet = plain._supernet.space.largest()
    found = [
        step.gradient([subnet], one.images, one.labels)[1 + len(step._pool.segments) :] for step in (plain, rounded)
    ]
    cosine = F.cosine_similarity(found[0], found[1], dim=0)
    assert 0.98 < cosine < 1


def test_the_product_is_as_before_after_a_variant(benches) -> None:
    """What a variant replaces is back when it is over."""
    from glorasearch.evaluation import captured_model
    from glorasearch.fused import MergedWeights, merged, step
    from glorasearch.fused.linear import FusedLinear

    with benches("variant_float8").float8():
        assert merged.FusedLinear is not FusedLinear
    assert merged.FusedLinear is FusedLinear
    assert step.MergedWeights is captured_model.MergedWeights is MergedWeights


def test_an_unknown_variant_is_refused(benches, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["bench_variants.py", "--variants", "float9"])
    with pytest.raises(SystemExit):
        benches("bench_variants").main()
    assert "no variant float9; there are once more as it is, attention by cuDNN" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["once more as it is", "float8 with frozen weights", "float8 forward only"])
def test_a_step_can_be_traced_for_compilation(benches, name: str) -> None:
    """Without breaks in the blocks, and with the losses of the step that is not compiled."""
    bench = benches("bench_variants")
    one = bench.Bench("tiny", "cpu")
    variant = next(variant for variant in bench.VARIANTS if variant.name == name)
    expected = bench.made("step", one, variant)
    torch._dynamo.reset()

    class Traced(bench.FusedStep):
        def __init__(self, *given, **named) -> None:
            super().__init__(*given, **named)
            for block in self._model.blocks:
                block.compile(backend="aot_eager", fullgraph=True)

    with variant.apply():
        found = bench.StepOf(one, variant, Traced)
    torch._dynamo.reset()
    torch.testing.assert_close(found.found, expected.found, rtol=1e-4, atol=1e-4)
