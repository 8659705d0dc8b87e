"""The fused step and the captured model on a real GPU, in the precision and at the sizes that they are made for."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import timm
import torch

from glorasearch.fused import FusedStep, StepConfig
from glorasearch.fused.gradients import merge, raw_gradient
from glorasearch.fused.layout import Shape
from glorasearch.fused.pool import pool_of
from glorasearch.space import SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
from glorasearch.training import SampledSubnet
from glorasearch.training.optimizer import SupernetOptimizer
from glorasearch.training.plain_step import PlainStep

pytestmark = pytest.mark.gpu
TOKENS = 64 * 197
PEAKS = {"factor": 1e-3, "vector": 1e-3, "head": 1e-3}


@pytest.mark.parametrize(("dtype", "close"), [(torch.bfloat16, 5e-3), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("outs", "ins"), [(2304, 768), (768, 768), (3072, 768), (768, 3072), (256, 64)])
@pytest.mark.parametrize(
    ("plan", "hide"),
    [
        ([1, 0, 0], False),
        ([0, 1, 1], False),
        ([0, 0, 1], False),
        ([0, 0, 0], False),
        pytest.param([0, 1, 1], True, id="plan1-True"),
        ([0, 1, 0, 0, 0, 1], False),
    ],
)
def test_gradients(outs: int, ins: int, plan: list[int], hide: bool, dtype: torch.dtype, close: float) -> None:
    from glorasearch.fused.factor_gradients import factor_gradient

    generator = torch.Generator("cuda").manual_seed(0)
    shape = Shape(outs, ins, 4, 4)

    def normal(*size: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*size, generator=generator, device="cuda") * scale

    factors = normal(sum(shape.sizes), scale=0.02)
    scale, shift, bias, left, *_ = shape.split(factors)
    plan = [*plan, 0, 0, 0][:6]
    if plan[5] and not shape.thin_products:
        plan[0] = 1  # as `Bank.plan` has it
    if not plan[0]:
        left[:, : 4 if plan[5] else 8].zero_()
    if not (plan[0] or plan[1]):
        scale.zero_()
    if not (plan[0] or plan[2]):
        shift.zero_()
    if hide:
        scale[5:90] = -0.99
    base, x, dy = normal(outs, ins, scale=0.02), normal(TOKENS, ins).to(dtype), normal(TOKENS, outs).to(dtype)
    weight = merge(base[None], factors[None], shape)[0].to(dtype)
    y = torch.nn.functional.linear(x, weight, bias.to(dtype))
    row = torch.tensor(plan, dtype=torch.int32, device="cuda")
    wanted = raw_gradient(*(tensor.double() for tensor in (dy, x, y, base, factors)), row, shape)
    found = factor_gradient(dy, x, y, base, factors, row, shape)
    for part, got, expected in zip(PARTS, shape.split(found), shape.split(wanted), strict=True):
        error = (got - expected).norm() / expected.norm().clamp_min(1e-12)
        assert error < close, f"{part}: {error}"


PARTS = "scale", "shift", "bias", "left", "right", "spectrum"


def test_sums_over_tokens_that_nearly_cancel() -> None:
    """What is seen of the inputs is rounded for a product; what that leaves is multiplied, too."""
    from glorasearch.fused.factor_gradients import factor_gradient

    generator, shape = torch.Generator("cuda").manual_seed(0), Shape(2304, 768, 4, 4)
    x, dy = (torch.randn(TOKENS, size, generator=generator, device="cuda") for size in (768, 2304))
    x, dy = (x + 0.5).bfloat16(), (dy - dy.mean(0)).bfloat16()
    base, factors = torch.zeros(2304, 768, device="cuda"), torch.zeros(sum(shape.sizes), device="cuda")
    shape.split(factors)[3][:, 4:] = torch.randn(2304, 4, generator=generator, device="cuda")
    shape.split(factors)[4][4:] = torch.randn(4, 768, generator=generator, device="cuda").bfloat16().float()
    row = torch.tensor([0, 0, 1, 0, 0, 1], dtype=torch.int32, device="cuda")
    wanted = raw_gradient(*(tensor.double() for tensor in (dy, x, dy, base, factors)), row, shape)
    found = factor_gradient(dy, x, dy, base, factors, row, shape)
    for part in (1, 3, 4):
        got, expected = shape.split(found)[part], shape.split(wanted)[part]
        assert (got - expected).norm() < 3e-3 * expected.norm(), PARTS[part]


def supernets(count: int, **arguments: float) -> list[Supernet]:
    torch.manual_seed(0)
    backbone = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=5, depth=4, **arguments).cuda()
    return [Supernet(backbone, SearchSpace.load("glora_medium"), seed=3).train() for _ in range(count)]


def fused_step(supernet: Supernet, dtype: torch.dtype) -> FusedStep:
    config = StepConfig(dtype=dtype)
    return FusedStep(supernet, config, loss=partial(CLASSIFY.subnet_loss, smoothing=0.0), teacher=CLASSIFY.teacher_of)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 5e-2)])
def test_the_captured_step_learns_as_the_plain_one(dtype: torch.dtype, tolerance: float) -> None:
    first, second = supernets(2)
    optimizer = SupernetOptimizer(first, {"factor": 1e-3, "vector": 1e-3, "head": 1e-3}, weight_decay=1e-4)
    plain = PlainStep(first, optimizer, mixed=dtype == torch.bfloat16, label_smoothing=0.0, clip_norm=1.0, seed=0)
    fused = fused_step(second, dtype)
    rng = np.random.default_rng(0)
    images, labels = torch.randn(16, 3, 64, 64, device="cuda"), torch.randint(0, 5, (16,), device="cuda")
    for number in range(30):
        subnet = sample(first.space, rng)
        expected = plain.run(number, [SampledSubnet(subnet)], images, labels, 1.0)
        found = fused.run([subnet], images, labels, PEAKS)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        assert fused.left_out == (what_is_not_needed(second, subnet) if number else 0)
    assert found[0] < 0.5, "it has learned"


def test_a_captured_step_of_several_subnets_learns_as_the_plain_one() -> None:
    """Each of them leaves out parts of its own.

    A new supernet is the same function for every subnet, so that those which are distilled from the first learn nothing
    but rounding errors, whose signs AdamW follows: it starts with parameters that are none of the initial ones.
    """
    first, second = supernets(2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for one, other in zip(first.parameters(), second.parameters(), strict=True):
            if one.requires_grad:
                moved = torch.randn(one.shape, generator=generator).mul_(0.02).cuda()
                one.add_(moved)
                other.add_(moved)
    optimizer = SupernetOptimizer(first, PEAKS, weight_decay=1e-4)
    plain = PlainStep(first, optimizer, mixed=False, label_smoothing=0.0, clip_norm=1.0, seed=0)
    config = StepConfig(paths=(False, True, True), dtype=torch.float32)
    loss = partial(CLASSIFY.subnet_loss, smoothing=0.0)
    fused = FusedStep(second, config, loss=loss, teacher=CLASSIFY.teacher_of)
    rng = np.random.default_rng(0)
    images, labels = torch.randn(16, 3, 64, 64, device="cuda"), torch.randint(0, 5, (16,), device="cuda")
    for number in range(10):
        subnets = [sample(first.space, rng) for _ in config.paths]
        drawn = [SampledSubnet(subnet, distill) for subnet, distill in zip(subnets, config.paths, strict=True)]
        expected = plain.run(number, drawn, images, labels, 1.0)
        torch.testing.assert_close(fused.run(subnets, images, labels, PEAKS), expected, rtol=2e-3, atol=2e-3)
        assert fused.left_out == (sum(what_is_not_needed(second, subnet) for subnet in subnets) if number else 0)


def test_a_captured_step_of_a_model_that_uses_layers_several_times_learns_as_the_plain_one() -> None:
    """CoaT's parallel blocks share their MLPs: one flag of the plan for three uses."""
    torch.manual_seed(0)
    depths = {"serial_depths": (1, 1, 1, 1), "parallel_depth": 2}
    backbone = timm.create_model("coat_tiny", img_size=64, num_classes=5, **depths).cuda()
    first, second = (Supernet(backbone, SearchSpace.load("glora_medium"), seed=3).train() for _ in range(2))
    optimizer = SupernetOptimizer(first, PEAKS, weight_decay=1e-4)
    plain = PlainStep(first, optimizer, mixed=False, label_smoothing=0.0, clip_norm=1.0, seed=0)
    fused = fused_step(second, torch.float32)
    rng = np.random.default_rng(0)
    images, labels = torch.randn(16, 3, 64, 64, device="cuda"), torch.randint(0, 5, (16,), device="cuda")
    for number in range(5):
        subnet = sample(first.space, rng)
        expected = plain.run(number, [SampledSubnet(subnet)], images, labels, 1.0)
        torch.testing.assert_close(fused.run([subnet], images, labels, PEAKS), expected, rtol=2e-3, atol=2e-3)
    assert fused.left_out > what_is_not_needed(second, subnet), "there are more parts than layers"


def what_is_not_needed(supernet: Supernet, subnet: Subnet) -> int:
    """Parts of a captured step: for each layer its dense gradient or what is there in place of it, the sums of its
    inputs, and where outputs are kept the rows that hardly scale."""
    pool, count = pool_of(supernet), 0
    codes = torch.tensor(pool.codes(subnet), dtype=torch.int32, device="cuda")
    for bank in pool.banks:
        dense, scaled, shifted, _, _, products = bank.plan(codes).bool().T
        parts = [dense, ~dense, (shifted | products) & ~dense] + ([scaled & ~dense] if bank.shape.keeps_output else [])
        parts += [products & ~dense] if bank.shape.thin_products else []
        count += int(sum((~part).sum() for part in parts))
    return count


def test_a_capture_draws_new_noise_for_every_step() -> None:
    (supernet,) = supernets(1, drop_path_rate=0.5)
    step = fused_step(supernet, torch.bfloat16)
    images, labels = torch.randn(16, 3, 64, 64, device="cuda"), torch.randint(0, 5, (16,), device="cuda")
    none = dict.fromkeys(PEAKS, 0.0)

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return float(step.run([supernet.space.smallest()], images, labels, none)[0])

    losses = [loss(seed) for seed in (0, 1, 2, 1, 2)]
    assert losses[1] == losses[3]
    assert losses[2] == losses[4]
    assert losses[1] != losses[2]


def test_scores_repeat_to_the_bit_in_any_order() -> None:
    from glorasearch.evaluation.captured_model import CapturedModel
    from glorasearch.evaluation.eager_model import EagerModel

    (supernet,) = supernets(1)
    for parameter in supernet.adapter_parameters().values():
        parameter.data.normal_(std=0.02)
    rng = np.random.default_rng(0)
    subnets = [sample(supernet.space, rng) for _ in range(40)]
    images = torch.randn(25, 3, 64, 64, device="cuda")
    fast, eager = CapturedModel(supernet, "cuda"), EagerModel(supernet, "cuda")

    def logits(index: int) -> torch.Tensor:
        fast.write(subnets[index])
        return fast.forward(images.bfloat16()).clone()

    with torch.inference_mode():
        once = {index: logits(index) for index in range(40)}
        for index in rng.permutation(40).tolist():
            assert torch.equal(logits(index), once[index])
        for index in range(40):
            eager.write(subnets[index])
            wanted = eager.forward(images)
            assert (once[index] - wanted).norm() / wanted.norm() < 3e-2
