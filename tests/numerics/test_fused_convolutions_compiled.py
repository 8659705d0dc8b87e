"""What a compiler is told of convolutions on the fused paths, and what it makes of them."""

from __future__ import annotations

import pytest
import torch
from support.convolutions import FORMS, convolution, input_of, supernet_of
from torch._dynamo.testing import CompileCounter

from glorasearch.fused import MergedWeights, pool_of
from glorasearch.fused.convolution import fused_convolution
from glorasearch.fused.geometry import Geometry
from glorasearch.fused.merged import fused_layers


@pytest.mark.parametrize("form", ["groups", "depthwise, doubled", "strided"])
def test_a_compiler_is_told_the_truth(form: str) -> None:
    """Shapes, strides, gradients and aliases of the operators are what they are registered with."""
    conv = convolution(form).double()
    x = input_of(conv).contiguous(memory_format=torch.channels_last).requires_grad_()
    pool = pool_of(net := supernet_of([conv]))
    merged = MergedWeights(pool, torch.float64, training=True)
    merged.fill(torch.tensor(pool.codes(net.space.largest()), dtype=torch.int32))
    (bank,) = pool.banks
    leaf = merged.factors[0][0].detach().requires_grad_()
    rest = bank.base[0], merged.plans[0][0], bank.extras.left, bank.extras.right
    numbers = bank.shape.scale_rank, bank.shape.shift_rank, Geometry.of(conv).numbers
    given = x, merged.filters[0][0], leaf, *rest, *numbers
    torch.library.opcheck(fused_convolution, given)
    compiled = torch.compile(fused_layers(merged, [[leaf]])["layer0"], backend="aot_eager", fullgraph=True)
    wanted, found = fused_convolution(*given) + merged.biases[0][0][:, None, None], compiled(x)
    assert found.stride() == wanted.stride()
    dy = torch.randn_like(wanted)
    for one, other in zip(*(torch.autograd.grad(y, [x, leaf], dy) for y in (wanted, found)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "circular"])  # torch pads that its own way
def test_gradients_have_their_channels_last(form: str) -> None:
    """Or whoever takes one on copies it: 160 us for each of the larger ones of a ResNet-50, with 64 images."""
    conv = convolution(form).double()
    x = input_of(conv).contiguous(memory_format=torch.channels_last).requires_grad_()
    merged = MergedWeights(pool_of(supernet_of([conv])), torch.float64, training=True)
    y = fused_layers(merged, [[merged.factors[0][0].detach().requires_grad_()]])["layer0"](x)
    (found,) = torch.autograd.grad(y, x, torch.randn_like(y))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_compiler_traces_every_form_and_compiles_equal_layers_once() -> None:
    """Blocks of equal layers share one compilation; in a step, and in a candidate."""
    for form in FORMS:
        net = supernet_of([convolution(form), convolution(form)])
        pool = pool_of(net)
        merged = MergedWeights(pool, torch.float64, training=True)
        merged.fill(torch.tensor(pool.codes(net.space.largest()), dtype=torch.int32))
        fused = fused_layers(merged, [[row.detach().requires_grad_() for row in rows] for rows in merged.factors])
        x = input_of(convolution(form)).requires_grad_()
        for layers in (fused, merged.layers()):
            torch._dynamo.reset()
            counter = CompileCounter()
            for name, layer in layers.items():
                layer.compile(backend=counter, fullgraph=True, dynamic=False)
                torch.testing.assert_close(layer(x), net.merged(net.space.largest()).get_submodule(name)(x))
            assert counter.frame_count == 1, form
