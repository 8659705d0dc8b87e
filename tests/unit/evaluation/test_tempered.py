"""The tempered cross-entropy: the equation at the best temperature of the grid, exact whatever the blocks and order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from glorasearch.data import Splits
from glorasearch.evaluation import CandidateEvaluator, score_sums, scoring, tempered_of
from glorasearch.evaluation.scoring import PendingSums, device_sums
from glorasearch.space import BETAS, sample
from glorasearch.space.early_stopping import UNIT
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY


def draw(images: int, classes: int, scale: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that lean to the right class, and labels."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=rng)
    logits = torch.randn(images, classes, generator=rng)
    return scale * (logits + torch.nn.functional.one_hot(labels, classes)), labels


def by_the_equation(logits: Tensor, labels: Tensor, beta: float) -> float:
    """Mean of `logsumexp(beta z) - beta z_y`, nats."""
    rows = logits.double().numpy() * beta
    most = rows.max(1)
    chosen = rows[np.arange(len(rows)), labels.numpy()]
    return float((most + np.log(np.exp(rows - most[:, None]).sum(1)) - chosen).mean())


@pytest.mark.parametrize(("classes", "scale"), [(2, 0.1), (10, 1.0), (10, 8.0), (257, 3.0)])
def test_it_is_the_least_of_the_equation_over_the_grid(classes: int, scale: float) -> None:
    logits, labels = draw(120, classes, scale)
    found = {beta: by_the_equation(logits, labels, beta) for beta in BETAS}
    nats, beta = tempered_of(logits, labels)
    assert nats == pytest.approx(min(found.values()), abs=UNIT)
    assert found[beta] == min(found.values())
    sums = score_sums(logits, labels)
    assert [total / 120 for total in sums.nats] == pytest.approx(list(found.values()), abs=UNIT)
    assert sums.correct == int((logits.argmax(-1) == labels).sum())
    assert sums.cross_entropy == float(CLASSIFY.losses(logits, labels).sum()) * UNIT, (
        "as without temperatures, to the bit"
    )


def test_the_temperature_undoes_a_scale_of_the_logits() -> None:
    logits, labels = draw(200, 10, 1.0)
    nats, beta = tempered_of(logits, labels)
    for octaves in (-2, 1, 2):
        assert tempered_of(logits * 2**octaves, labels) == (nats, beta / 2**octaves)


def test_between_two_temperatures_of_the_grid_little_is_lost() -> None:
    for seed in range(20):
        logits, labels = draw(200, 10, 1.1**seed, seed)
        nats, beta = tempered_of(logits, labels)
        finer = min(by_the_equation(logits, labels, beta * 2 ** (step / 64)) for step in range(-16, 17))
        assert 0 <= nats - finer + UNIT < 0.004


@pytest.mark.parametrize("classes", [3, 1025])
def test_sums_depend_neither_on_blocks_nor_on_order(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = draw(150, classes, 4.0)
    expected = score_sums(logits, labels)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    for rows in (1, 7, 64, 1_000):
        monkeypatch.setattr(scoring, "CPU_BLOCK_BYTES", rows * 8 * len(BETAS) * classes)
        assert score_sums(logits, labels) == score_sums(logits[order], labels[order]) == expected
        chunks = sum(device_sums(*chunk) for chunk in zip(logits.split(rows), labels.split(rows), strict=True))
        assert isinstance(chunks, Tensor)
        assert PendingSums(chunks).wait() == expected


def test_logits_that_are_not_finite_give_no_number() -> None:
    logits, labels = draw(20, 4, 1.0)
    logits[3, 2] = float("nan")
    sums = score_sums(logits, labels)
    assert not sums.finite
    assert all(math.isnan(total) for total in (*sums.nats, sums.tempered))


def test_a_candidate_has_the_score_of_its_logits(splits: Splits, fitted: Supernet) -> None:
    evaluator = CandidateEvaluator(fitted, splits.search, batch_size=16, hardest_first=True)
    images, labels = splits.search.batch(slice(None))
    rng = np.random.default_rng(3)
    betas = set()
    for _ in range(6):
        subnet = sample(fitted.space, rng)
        score = evaluator.evaluate(subnet)
        with torch.inference_mode():
            nats, beta = tempered_of(fitted.merged(subnet)(images), labels)
        assert score.tempered == pytest.approx(nats, rel=1e-5)
        assert (score.beta, score.temperature) == (beta, 1 / beta)
        assert score.tempered <= score.cross_entropy
        betas.add(beta)
    assert betas != {1.0}
