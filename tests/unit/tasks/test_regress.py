"""Images with numbers: squared errors by their equation, scores that are exact, units that come back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glorasearch.errors import BackboneError
from glorasearch.evaluation import score_sums
from glorasearch.export.units import check_units, scale_head
from glorasearch.race import FoldScore
from glorasearch.race.scores import standing
from glorasearch.search.trials import TrialRecord, rank
from glorasearch.space import BETAS, Score, StopThreshold
from glorasearch.space.early_stopping import UNIT
from glorasearch.tasks import Regress, Standard, task_from, task_of

REGRESS = task_of("regress")


def draw(images: int, targets: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    wanted = torch.randn(images, targets, generator=rng)
    return wanted + 0.4 * torch.randn(images, targets, generator=rng), wanted


def test_the_loss_is_the_mean_squared_error() -> None:
    outputs, wanted = draw(40, 3)
    equation = float(((outputs.double() - wanted.double()) ** 2).mean())
    assert float(REGRESS.label_loss(outputs, wanted, 0.0)) == pytest.approx(equation)
    assert REGRESS.label_loss(outputs.bfloat16(), wanted, 0.0).dtype is torch.float32
    teacher = REGRESS.teacher_of(wanted)
    assert float(REGRESS.subnet_loss(outputs, outputs, teacher, smoothing=0.0)) == pytest.approx(equation)
    members = REGRESS.member_losses(torch.stack([outputs, wanted]), torch.stack([wanted, wanted]), torch.zeros(2))
    assert members.tolist() == pytest.approx([equation, 0.0])
    with pytest.raises(ValueError, match="neither weights of classes nor label smoothing"):
        REGRESS.label_loss(outputs, wanted, 0.1)


def test_a_score_is_the_error_and_nothing_else() -> None:
    outputs, wanted = draw(90, 2)
    sums = score_sums(outputs, wanted, REGRESS)
    score = Score.of(sums, 90, numbers=True)
    assert score.squared_error == pytest.approx(float((outputs - wanted).double().square().mean()), abs=UNIT)
    assert (score.right_or_wrong, len(sums.nats), sums.correct) == (False, len(BETAS), 0)
    attrs = TrialRecord(3, "d", 7, score).to_attrs() | {"subnet": "d", "parameters": 7}
    assert set(attrs) == {"squared_error", "total", "seconds", "origin", "subnet", "parameters"}
    assert TrialRecord.from_attrs(3, attrs).score == score
    better = TrialRecord(4, "e", 7, Score.of_numbers(score.cross_entropy / 2, 90))
    assert rank("squared_error", better) < rank("squared_error", TrialRecord(3, "d", 7, score))
    assert better.to_row()["accuracy"] is None


def test_no_bound_is_better_than_the_error_can_be() -> None:
    outputs, wanted = draw(64, 2, seed=4)
    whole = score_sums(outputs, wanted, REGRESS).cross_entropy / 64
    threshold = StopThreshold("squared_error", whole)
    bounds = [threshold.bound(score_sums(outputs[:n], wanted[:n], REGRESS), n, 64) for n in range(1, 65)]
    assert bounds == sorted(bounds)
    assert bounds[-1] == whole
    assert not any(threshold.excludes(bound) for bound in bounds)
    assert StopThreshold("squared_error", bounds[20]).excludes(bounds[30])


def test_units_come_back() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.standard_normal((50, 2)) * [3.0, 1e-3] + [1e4, -2.0]
    task = REGRESS.fitted(wanted)
    encoded = task.encoded(wanted)
    assert encoded.dtype == np.float32
    assert encoded.mean(0) == pytest.approx([0, 0], abs=1e-5)
    assert encoded.std(0) == pytest.approx([1, 1], abs=1e-5)
    assert task.said(torch.from_numpy(encoded)).numpy() == pytest.approx(wanted, rel=1e-6)
    written = [float(text) for text in task.written(encoded[0].tolist(), ("a", "b")).split("; ")]
    assert np.abs(written - wanted[0]) == pytest.approx([0, 0], abs=2e-5 * 3)
    assert written[1] == pytest.approx(wanted[0, 1], abs=2e-8)
    assert task_from(task.facts) == task
    assert task.chance(2) == pytest.approx(float((encoded**2).mean()), rel=1e-5)
    assert REGRESS.targets_fault(np.array([[1.0, 5.0], [2.0, 5.0]]), ("a", "b")) is not None


def test_groups_are_quantiles() -> None:
    rng = np.random.default_rng(1)
    groups = REGRESS.strata(rng.lognormal(size=(100, 1)))
    assert np.bincount(groups).tolist() == [10] * 10
    crossed = REGRESS.strata(rng.standard_normal((99, 2)))
    assert len(np.unique(crossed)) == 9
    assert len(np.unique(REGRESS.strata(np.ones((20, 1))))) == 1, "equal targets are together"


def test_the_scale_of_targets_goes_into_the_last_layer() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 2))
    model.get_classifier = lambda: model[3]  # type: ignore[assignment]
    model.pretrained_cfg = {"classifier": "3"}  # type: ignore[assignment]
    images = torch.randn(5, 3, 2, 2)
    before, state = model(images), {name: value.clone() for name, value in model.state_dict().items()}
    check_units(model, images)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items()), "left as it was"
    scale_head(model, Standard((100.0, -1.0), (7.0, 0.5)))
    expected = before * torch.tensor([7.0, 0.5]) + torch.tensor([100.0, -1.0])
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-4)
    model.append(nn.Tanh())
    with pytest.raises(BackboneError, match="its outputs are not those of its last layer"):
        check_units(model, images)


def test_a_race_of_numbers_has_the_mean_error_over_its_folds() -> None:
    found = standing([FoldScore(10, 0, (5.0,)), FoldScore(30, 0, (3.0,))], BETAS, "squared_error")
    assert (found.judged, found.accuracy, found.tempered, found.beta) == (0.2, None, None, None)
    assert standing([FoldScore(10, 0, None)], BETAS, "squared_error").judged is None


def test_it_is_the_task_of_its_kind() -> None:
    assert isinstance(REGRESS, Regress)
    assert REGRESS.words.right_or_wrong is False


def test_a_standard_is_undone() -> None:
    standard = Standard((1_000.0, 0.5), (50.0, 0.01))
    outputs = torch.tensor([[1_050.0, 0.52], [950.0, 0.5]])
    torch.testing.assert_close(standard.of_outputs(outputs), torch.tensor([[1.0, 2.0], [-1.0, 0.0]]).double(),
                               rtol=0, atol=1e-5)  # fmt: skip
    torch.testing.assert_close(standard.undone(standard.of_outputs(outputs)), outputs.double())


def test_numbers_are_written_as_far_as_their_target_deviates() -> None:
    """Six digits of a time in seconds since 1970 are 12 days; those of a float32 are more than a small target has."""
    wanted = np.array([[1_700_000_000 + 3_600.25 * hour, 0.001 * hour, 34.0 + hour] for hour in range(24)])
    task = Regress().fitted(wanted)
    for numbers, row in zip(task.encoded(wanted), wanted, strict=True):
        texts = task.in_digits(numbers)
        assert np.array(texts, dtype=np.float64) == pytest.approx(row, abs=0.06)
        assert task.written(numbers, ("time", "small", "age")) == "; ".join(texts)
        assert texts[2] == f"{row[2]:g}"
    assert task.in_digits(task.encoded(wanted[3:4])[0])[:2] == ["1700010800.8", "0.003"]


def test_targets_that_float32_cannot_tell_apart_are_refused_before_any_work() -> None:
    """Exports answer in float32: times since 1970 within a day failed there, after everything else was done."""
    hours = np.arange(24, dtype=np.float64)[:, None] * 3_600
    fault = REGRESS.targets_fault(1_700_000_000 + hours, ("taken",))
    assert fault is not None
    assert fault.startswith("target 'taken' is 1.70004e+09 on average and deviates by 2.49e+04")
    assert "steps of 128 there: subtract a number such as 1.70004e+09" in fault
    for fine in (hours, 100_000 + hours, 1_700_000_000 + 365 * hours):
        assert REGRESS.targets_fault(fine, ("taken",)) is None
