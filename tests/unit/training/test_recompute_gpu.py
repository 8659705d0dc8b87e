"""On a real GPU: a captured step and a captured stack that compute activations again, and the choice by free memory."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pytest
import timm
import torch
from support.data import few_digits
from support.models import tiny_vit
from support.stacks import members_of, space_of
from torch import Tensor, nn

from glorasearch.fused import FusedStep, StepConfig
from glorasearch.space import SearchSpace, sample
from glorasearch.stacked import StackedTrainer
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
from glorasearch.training import TrainingConfig
from glorasearch.training.memory import fit_step, memory_of

pytestmark = pytest.mark.gpu
RATES = {"factor": 1e-3, "vector": 1e-3, "head": 1e-3}


def backbone(size: int = 224) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_small_patch16_224", img_size=size, num_classes=5).cuda()


def row(state: Mapping[str, Tensor]) -> Tensor:
    """An adapter state in one row, on the CPU."""
    return torch.cat([value.flatten().float() for value in state.values()]).cpu()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_captured_step_computes_the_same_with_less_memory(dtype: torch.dtype) -> None:
    loss = partial(CLASSIFY.subnet_loss, smoothing=0.1, weights=None)
    images = torch.randn(64, 3, 224, 224, device="cuda")
    labels = torch.randint(0, 5, (64,), device="cuda")
    results, peaks, changes = [], [], []
    for again in (False, True):
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        supernet = Supernet(backbone(), SearchSpace.load("glora_medium"), seed=3).train()
        step = FusedStep(supernet, StepConfig(dtype=dtype), loss=loss, teacher=CLASSIFY.teacher_of)
        if again:
            step.recompute()
        rng, start = np.random.default_rng(0), row(supernet.adapter_state())
        results.append(
            torch.stack([step.run([sample(supernet.space, rng)], images, labels, RATES) for _ in range(8)]).cpu()
        )
        assert step.steps_done == 8, "captured"
        peaks.append(step.peak_bytes - before)
        changes.append(row(supernet.adapter_state()) - start)
        del supernet, step
    print(f"{dtype}: peak {peaks[0] / 1e9:.2f} GB, computed again {peaks[1] / 1e9:.2f} GB")
    assert peaks[1] < 0.6 * peaks[0]
    close = 2e-3 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(results[0][:, 0], results[1][:, 0], rtol=close, atol=close)
    # The gradient's norm is the more sensitive of the two: what rounding does to it in bfloat16 is some 5 percent.
    torch.testing.assert_close(results[0][:, 1], results[1][:, 1], rtol=4 * close, atol=close)
    # A gradient that is all rounding takes Adam's full step to either side: no bound holds for every entry.
    first, second = changes
    assert (first - second).norm() < (0.05 if dtype == torch.float32 else 0.5) * first.norm()


def test_a_captured_stack_computes_the_same_with_drop_path() -> None:
    data = few_digits().train
    changes, losses = [], []
    for how in ("off", "on"):
        vit = tiny_vit(depth=4, drop_path_rate=0.3).cuda()
        members = members_of(vit, space_of(vit), len(data), 4, drop_path=0.3, recompute=how, precision="float32")
        trainer = StackedTrainer(vit, members, data, device="cuda", compile="on", side_by_side=True)
        start = [row(trainer.state(number)) for number in range(4)]
        losses.append(trainer.run().loss)
        changes.append([row(trainer.state(number)) - start[number] for number in range(4)])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)
    for expected, found in zip(*changes, strict=True):  # of all entries together, as above
        assert (expected - found).norm() < 0.05 * expected.norm()


def test_it_is_chosen_by_the_free_memory_of_the_card(caplog: pytest.LogCaptureFixture) -> None:
    class Step:
        recomputes = False

        def recompute(self) -> None:
            self.recomputes = True

    free = memory_of(torch.device("cuda"), None)
    assert free is not None
    supernet = Supernet(backbone(), SearchSpace.load("glora_medium")).train()
    images = torch.randn(2, 3, 224, 224, device="cuda")
    fits, step = Step(), Step()
    assert not fit_step(fits, supernet, TrainingConfig(batch_size=64), images)
    assert not fits.recomputes
    assert fit_step(step, supernet, TrainingConfig(batch_size=65_536), images)
    assert step.recomputes
    assert "are computed again in the backward pass" in caplog.text
