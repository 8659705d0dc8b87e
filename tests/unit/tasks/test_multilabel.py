"""Images with several labels: losses by their equations, scores that are exact, candidates that stop without harm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glorasearch.evaluation import score_sums, tempered_of
from glorasearch.space import BETAS, StopThreshold
from glorasearch.space.early_stopping import UNIT
from glorasearch.tasks import CLASSIFY, MULTILABEL, task_of


def draw(images: int, labels: int, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    targets = (torch.rand(images, labels, generator=rng) < 0.4).float()
    return scale * (torch.randn(images, labels, generator=rng) + targets - 0.5), targets


def by_the_equation(logits: Tensor, targets: Tensor, beta: float = 1.0) -> float:
    """Mean over images and labels of `-y log s(beta z) - (1 - y) log(1 - s(beta z))`, nats."""
    z, y = logits.double().numpy() * beta, targets.double().numpy()
    return float((y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)).mean())


def test_the_loss_of_a_training() -> None:
    logits, targets = draw(40, 5)
    assert float(MULTILABEL.label_loss(logits, targets, 0.0)) == pytest.approx(by_the_equation(logits, targets))
    smooth = 0.8 * targets + 0.1
    assert float(MULTILABEL.label_loss(logits, targets, 0.2)) == pytest.approx(by_the_equation(logits, smooth))
    assert MULTILABEL.label_loss(logits.bfloat16(), targets, 0.0).dtype is torch.float32
    teacher = MULTILABEL.teacher_of(logits)
    own = MULTILABEL.subnet_loss(logits, targets, teacher, smoothing=0.5)
    assert float(own) == pytest.approx(by_the_equation(logits, logits.sigmoid()))
    other = logits + torch.eye(40, 5)
    assert MULTILABEL.subnet_loss(other, targets, teacher, smoothing=0.0) > own, "the teacher's answer is the best"


def test_a_score_is_the_equation_at_the_best_temperature() -> None:
    logits, targets = draw(90, 4, scale=5.0)
    found = {beta: by_the_equation(logits, targets, beta) for beta in BETAS}
    nats, beta = tempered_of(logits, targets, MULTILABEL)
    assert nats == pytest.approx(min(found.values()), abs=UNIT)
    assert found[beta] == min(found.values())
    sums = score_sums(logits, targets, MULTILABEL)
    assert [total / 90 for total in sums.nats] == pytest.approx(list(found.values()), abs=UNIT)
    assert sums.correct == int(((logits.sigmoid() > 0.5).float() == targets).all(-1).sum())
    assert sums.cross_entropy == float(MULTILABEL.losses(logits, targets).sum()) * UNIT
    assert MULTILABEL.chance(4) == pytest.approx(by_the_equation(torch.zeros(90, 4), targets))


@pytest.mark.parametrize("fitness", ["tempered", "accuracy", "cross_entropy"])
def test_no_bound_is_better_than_the_score_can_be(fitness: str) -> None:
    logits, targets = draw(64, 3, seed=4)
    whole = score_sums(logits, targets, MULTILABEL)
    value = {"tempered": whole.tempered / 64, "accuracy": whole.correct / 64, "cross_entropy": whole.cross_entropy / 64}
    threshold = StopThreshold(fitness, value[fitness])  # type: ignore[arg-type]
    for seen in range(1, 65):
        bound = threshold.bound(score_sums(logits[:seen], targets[:seen], MULTILABEL), seen, 64)
        assert not threshold.excludes(bound), "as good as itself, so never stopped"
    assert bound == value[fitness]


def test_one_label_is_two_classes() -> None:
    logits, targets = draw(50, 1)
    both = torch.cat([torch.zeros_like(logits), logits], dim=1)
    labels = targets[:, 0].long()
    assert torch.equal(MULTILABEL.right(logits, targets), CLASSIFY.right(both, labels))
    assert MULTILABEL.losses(logits, targets).tolist() == pytest.approx(CLASSIFY.losses(both, labels).tolist(), abs=1)
    loss = F.cross_entropy(both, labels)
    assert float(MULTILABEL.label_loss(logits, targets, 0.0)) == pytest.approx(float(loss))


def test_what_tables_say_of_labels() -> None:
    targets = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1]], np.float32)
    logits = np.array([[2.0, -1.0, -1.0], [1.0, -1.0, 3.0], [-1.0, 1.0, 1.0]], np.float32)
    predicted = MULTILABEL.predicted(torch.from_numpy(logits)).numpy()
    found = MULTILABEL.by_output(logits, predicted, targets)
    assert [(one["images"], one["correct"], one["predicted"]) for one in found] == [(1, 1, 2), (0, 0, 1), (3, 2, 2)]
    assert [(one["auc"], one["average_precision"]) for one in found] == [(1.0, 1.0), (None, None), (None, 1.0)]
    assert MULTILABEL.images_of(targets, 3) == [1, 0, 3]
    assert MULTILABEL.strata(targets).tolist() == [0, 0, 0]
    assert [MULTILABEL.written(row, "abc") for row in targets.tolist()] == ["a; c", "c", "c"]
    assert task_of("multilabel") is MULTILABEL
    with pytest.raises(ValueError, match="no weights of classes"):
        MULTILABEL.label_loss(torch.zeros(1, 2), torch.zeros(1, 2), 0.0, torch.ones(2))
