"""Normalisations of the model that a fused step runs, against those of the backbone."""

from __future__ import annotations

import pytest
import torch
from timm.layers import BatchNormAct2d, LayerNorm2d
from torch import nn

from glorasearch.fused.norms import FixedNorm, fixed_norms, keep_dtype

NORMS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "1d": (nn.BatchNorm1d, (7, 5)),
    "1d, sequences": (nn.BatchNorm1d, (3, 5, 4)),
    "2d": (nn.BatchNorm2d, (3, 5, 4, 6)),
    "3d": (nn.BatchNorm3d, (2, 5, 2, 3, 4)),
}


def trained(norm: nn.Module) -> nn.Module:
    """With statistics, and with scale and shift if it has any, of no particular value."""
    generator = torch.Generator().manual_seed(1)
    for value in (*norm.parameters(), *norm.buffers()):
        if value.is_floating_point():
            value.data.uniform_(0.2, 3.0, generator=generator)
    return norm.eval()


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("name", NORMS)
def test_a_batch_norm_is_one_product_and_one_sum(name: str, affine: bool) -> None:
    kind, shape = NORMS[name]
    norm = trained(kind(5, affine=affine, eps=0.1).double())
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    ((_, fixed),) = fixed_norms(norm)
    wanted, found = norm(x), fixed(x)
    torch.testing.assert_close(found, wanted)
    dy = torch.randn_like(wanted)
    torch.testing.assert_close(torch.autograd.grad(found, x, dy), torch.autograd.grad(wanted, x, dy))
    assert not list(fixed.parameters()), "nothing is trained"


def test_it_computes_in_the_dtype_of_its_statistics_and_gives_that_of_its_input() -> None:
    norm = trained(nn.BatchNorm2d(5))
    x = torch.randn(2, 5, 3, 3).bfloat16().contiguous(memory_format=torch.channels_last)
    found = FixedNorm(norm)(x)  # type: ignore[arg-type]
    assert found.dtype is torch.bfloat16
    assert found.stride() == x.stride()
    torch.testing.assert_close(found, norm(x.float()).bfloat16())


def test_norms_that_do_more_or_have_no_statistics_stay() -> None:
    hooked = nn.BatchNorm2d(5)
    hooked.register_forward_hook(lambda module, inputs, output: output * 2)
    plain = nn.BatchNorm2d(5)
    model = nn.Sequential(BatchNormAct2d(5), nn.BatchNorm2d(5, track_running_stats=False), hooked, plain)
    assert [norm for norm, _ in fixed_norms(model)] == [plain]


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.GroupNorm(2, 4), LayerNorm2d(4)])
def test_norms_give_the_dtype_that_they_take(norm: nn.Module) -> None:
    computed = norm.forward
    norm.forward = lambda x: computed(x.float())  # type: ignore[method-assign]  # as a GPU's autocast has it
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    wanted = norm(x.bfloat16())
    assert wanted.dtype is torch.float32
    keep_dtype(nn.Sequential(norm))
    assert torch.equal(norm(x.bfloat16()), wanted.bfloat16())
    assert norm(x).dtype is torch.float32
