"""Normalisations of the model that a fused step runs, against those of the backbone."""

from __future__ import annotations

from functools import partial

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, LayerNorm2d
from torch import nn

from glorasearch.fused import FusedStep, StepConfig
from glorasearch.fused.norms import AsGiven, FixedNorm, fixed_norms, keep_dtype
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY

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
    return norm.requires_grad_(False).eval()


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


def test_norms_that_do_more_are_trained_or_have_no_statistics_stay() -> None:
    hooked, replaced = nn.BatchNorm2d(5), nn.BatchNorm2d(5)
    hooked.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    replaced.forward = lambda x: x  # type: ignore[method-assign]
    plain, head = nn.BatchNorm2d(5), nn.BatchNorm1d(5)
    others = BatchNormAct2d(5), nn.BatchNorm2d(5, track_running_stats=False), hooked, replaced
    model = nn.Sequential(*others, plain).requires_grad_(False)
    model.append(head)
    assert [norm for norm, _ in fixed_norms(model)] == [plain]


def test_a_supernet_with_a_batch_norm_in_its_head_trains_it() -> None:
    torch.manual_seed(0)
    tiny = {"embed_dim": (16, 24), "depth": (1, 1), "num_heads": (2, 2), "key_dim": 8}
    backbone = timm.create_model("levit_128s", num_classes=10, img_size=64, **tiny).double().eval()
    choices = {"A": ["none", "vector"], "B": ["none", "lora:2"], "C": ["none", "vector"]}
    layers = {"include": ["stages.*"], "types": ["linear"]}
    space = SearchSpace.from_dict({"name": "mine", "layers": layers, "choices": choices})
    net = Supernet(backbone, space).train()
    loss = partial(CLASSIFY.subnet_loss, smoothing=0.0)
    step = FusedStep(net, StepConfig(dtype=torch.float64), loss=loss, teacher=CLASSIFY.teacher_of)
    assert sum(isinstance(module, nn.BatchNorm1d) for module in step._model.modules()) == 2
    before = {name: value.clone() for name, value in net.head_parameters().items()}
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    step.run([net.space.largest()], images, torch.arange(4), {"head": 1e-2, "factor": 1e-2, "vector": 1e-2})
    assert all(not torch.equal(value, before[name]) for name, value in net.head_parameters().items())


class Block(nn.Module):
    """One of several equal ones."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 1)


class Staged(nn.Module):
    """Norms around blocks and within them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 2, 2), LayerNorm2d(4))
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 5))


def test_norms_around_the_blocks_give_the_dtype_that_they_take() -> None:
    model = Staged().requires_grad_(False)
    model.head.requires_grad_(True)
    keep_dtype(model)
    assert [name for name, module in model.named_modules() if isinstance(module, AsGiven)] == ["stem.1"]
    norm = model.stem[1].norm
    computed = norm.forward
    norm.forward = lambda x: computed(x.float())  # as a GPU's autocast has it
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.stem[1](x.bfloat16()), norm(x.bfloat16()).bfloat16())
    assert norm(x.bfloat16()).dtype is torch.float32
    assert model.stem[1](x).dtype is torch.float32
