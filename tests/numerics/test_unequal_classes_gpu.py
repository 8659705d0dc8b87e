"""What takes classes alike, and the latency of an unmerged subnet, on a real GPU."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import timm
import torch
from sklearn.metrics import roc_auc_score

from glorasearch.evaluation import LayerCosts, milliseconds, training_flops
from glorasearch.evaluation.class_metrics import area_under_curve, device_counts
from glorasearch.fused import FusedStep, StepConfig
from glorasearch.space import SearchSpace, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
from glorasearch.training import SampledSubnet
from glorasearch.training.optimizer import SupernetOptimizer
from glorasearch.training.plain_step import PlainStep

pytestmark = pytest.mark.gpu
PEAKS = {"factor": 1e-3, "vector": 1e-3, "head": 1e-3}


def supernet() -> Supernet:
    torch.manual_seed(0)
    backbone = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=5, depth=4).cuda()
    return Supernet(backbone, SearchSpace.load("glora_medium"), seed=3)


def test_counts_and_areas_are_those_of_the_cpu_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(500, 7, generator=generator), torch.randint(0, 7, (500,), generator=generator)
    assert torch.equal(device_counts(logits.cuda(), labels.cuda()).cpu(), device_counts(logits, labels))
    expected = roc_auc_score(labels, logits.double().softmax(-1).numpy(), multi_class="ovr")
    found = area_under_curve(logits.cuda(), labels.cuda())
    assert found == area_under_curve(logits.cuda().flip(0), labels.cuda().flip(0))
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_captured_step_weights_classes_as_the_plain_one() -> None:
    first, second = supernet().train(), supernet().train()
    weights = torch.tensor([0.3, 2.0, 1.0, 1.5, 0.7], device="cuda")
    optimizer = SupernetOptimizer(first, PEAKS, weight_decay=1e-4)
    plain = PlainStep(first, optimizer, mixed=False, label_smoothing=0.1, clip_norm=1.0, seed=0, class_weights=weights)
    loss = partial(CLASSIFY.subnet_loss, smoothing=0.1, weights=weights)
    fused = FusedStep(second, StepConfig(dtype=torch.float32), loss=loss, teacher=CLASSIFY.teacher_of)
    rng = np.random.default_rng(0)
    images, labels = torch.randn(16, 3, 64, 64, device="cuda"), torch.randint(0, 5, (16,), device="cuda")
    for number in range(10):
        subnet = sample(first.space, rng)
        expected = plain.run(number, [SampledSubnet(subnet)], images, labels, 1.0)
        found = fused.run([subnet], images, labels, PEAKS)
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def test_latency_and_operations_of_unmerged_subnets() -> None:
    net = supernet()
    image = torch.randn(1, 3, 64, 64, device="cuda")
    for measure in (training_flops, partial(milliseconds, mixed=True)):
        costs = LayerCosts(net, image, measure)
        assert 0 < costs(net.space.smallest()) < costs(net.space.largest())
