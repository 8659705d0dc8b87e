"""Early stopping: when a training ends, on which images that is judged, what is kept, and that it resumes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.stacks import part_of
from support.training import STRATEGIES, state_of
from torch import Tensor

from glorasearch.data import SearchData, TrainSplit
from glorasearch.errors import ConfigError
from glorasearch.identity import identity
from glorasearch.space.score import BETAS
from glorasearch.supernet import Supernet
from glorasearch.training import SupernetTrainer, TrainingConfig, TrainingRecord, TrainSection
from glorasearch.training.patience import hold_out, judged_subnets

Build = Callable[..., SupernetTrainer]
MakeSupernet = Callable[..., Supernet]
SHORT: dict[str, Any] = {"steps": 60, "lr": 3e-2, "patience": 2, "patience_every": 3}
"""It stalls on the few digits after some checks."""


class StoppedError(Exception):
    """Ends a training where a signal would."""


def scores_of(rows: list[TrainingRecord]) -> dict[int, float]:
    return {row.step: row.values["patience_tempered"] for row in rows if "patience_tempered" in row.values}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def tempered(supernet: Supernet, split: TrainSplit, config: TrainingConfig, strategy: str) -> float:
    """The mean over the judged subnets of the cross-entropy at the best temperature, of merged models."""
    images, labels = split.batch(slice(None))
    found = []
    for subnet in judged_subnets(STRATEGIES[strategy](supernet), config.seed):
        with torch.no_grad():
            logits = supernet.merged(subnet).eval()(images).double()
        found.append(min(float(torch.nn.functional.cross_entropy(beta * logits, labels)) for beta in BETAS))
    return sum(found) / len(found)


@pytest.mark.parametrize("average", [0.0, 0.5])
@pytest.mark.parametrize("strategy", ["uniform", "sandwich", "fixed"])
def test_it_ends_when_it_stalls_and_keeps_the_best(
    make_trainer: Build, make_supernet: MakeSupernet, digits: SearchData, strategy: str, average: float
) -> None:
    supernet = make_supernet()
    rows: list[TrainingRecord] = []
    result = make_trainer(supernet, STRATEGIES[strategy], on_record=rows.append, ema_decay=average, **SHORT).run()
    scores = scores_of(rows)
    assert list(scores) == list(range(3, result.steps + 1, 3))
    assert result.steps < 60
    best = min(scores, key=lambda step: scores[step])
    assert result.kept_step == best == result.steps - 6
    config = TrainingConfig(**SHORT)
    _, judged = hold_out(digits.train, config)
    assert judged is not None
    assert tempered(supernet, judged, config, strategy) == pytest.approx(scores[best], rel=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("strategy", ["uniform", "sandwich"])
def test_a_captured_step_is_judged_and_its_best_weights_are_kept(
    make_trainer: Build, make_supernet: MakeSupernet, digits: SearchData, strategy: str
) -> None:
    supernet = make_supernet()
    rows: list[TrainingRecord] = []
    given = SHORT | {"precision": "float32", "ema_decay": 0.5, "device": "cuda"}
    result = make_trainer(supernet, STRATEGIES[strategy], on_record=rows.append, **given).run()
    scores, config = scores_of(rows), TrainingConfig(**SHORT)
    assert result.kept_step == min(scores, key=lambda step: scores[step])
    _, judged = hold_out(digits.train, config)
    assert judged is not None
    kept = make_supernet()
    kept.load_adapter_state({name: value.cpu() for name, value in supernet.adapter_state().items()})
    assert tempered(kept, judged, config, strategy) == pytest.approx(scores[result.kept_step], rel=1e-3)


def test_until_it_ends_it_is_the_training_on_the_other_images(
    make_trainer: Build, make_supernet: MakeSupernet, digits: SearchData
) -> None:
    patient, plain = make_supernet(), make_supernet()
    weights: dict[int, dict[str, Tensor]] = {}
    given = SHORT | {"patience": 99, "steps": 12}
    result = make_trainer(patient, on_step=lambda step: weights.update({step: state_of(patient)}), **given).run()
    learnt, _ = hold_out(digits.train, TrainingConfig(**given))
    make_trainer(plain, data=learnt, steps=12, lr=3e-2).run()
    assert result.steps == 12
    assert equal(weights[12], state_of(plain))
    assert result.kept_step is not None
    assert equal(weights[result.kept_step], state_of(patient))


def test_images_that_judge_are_not_augmented(
    make_trainer: Build, make_supernet: MakeSupernet, digits: SearchData
) -> None:
    supernet, plain = make_supernet(), make_supernet()
    rows: list[TrainingRecord] = []
    given = SHORT | {"steps": 9, "patience": 99}
    result = make_trainer(supernet, on_record=rows.append, augment="light", **given).run()
    make_trainer(plain, **given).run()
    assert result.kept_step is not None
    assert not equal(state_of(supernet), state_of(plain))
    config = TrainingConfig(**given)
    _, judged = hold_out(digits.train, config)
    assert judged is not None
    assert tempered(supernet, judged, config, "uniform") == pytest.approx(scores_of(rows)[result.kept_step], rel=1e-5)


def test_images_that_judge_are_of_every_class_and_not_learnt(digits: SearchData) -> None:
    copies = torch.cat([torch.arange(60), torch.arange(0, 60, 7), torch.tensor([3, 3])])
    data = part_of(digits.train, copies)
    for share, seed in ((0.1, 0), (0.3, 1), (0.95, 2)):
        learnt, judged = hold_out(data, TrainingConfig(patience=1, patience_share=share, seed=seed))
        assert judged is not None
        assert len(learnt) + len(judged) == len(data)
        assert not set(learnt._fingerprints) & set(judged._fingerprints)
        assert sorted([*learnt._fingerprints, *judged._fingerprints]) == sorted(data._fingerprints)
        assert set(learnt.labels.tolist()) == set(range(10))
        held = np.bincount([data._fingerprints.index(one) for one in set(judged._fingerprints)], minlength=60)
        by_class = [int(held[digits.train.labels.numpy() == label].sum()) for label in range(10)]
        assert by_class == [min(5, math.floor(6 * share + 0.5))] * 10
    assert hold_out(data, TrainingConfig()) == (data, None)


@pytest.mark.parametrize("seed", range(3))
def test_of_classes_too_small_for_an_image_of_their_own_as_many_give_one_as_make_up_the_share(
    digits: SearchData, seed: int
) -> None:
    data = part_of(digits.train, torch.cat([torch.arange(30), torch.arange(30)]))
    learnt, judged = hold_out(data, TrainingConfig(patience=1, patience_share=0.1, seed=seed))
    assert judged is not None
    assert not set(learnt._fingerprints) & set(judged._fingerprints)
    assert len(learnt) + len(judged) == 60
    assert len(judged) == 2 * len(set(judged.labels.tolist())) == 2 * 3
    assert set(learnt.labels.tolist()) == set(digits.train.labels[:30].tolist())
    with pytest.raises(ConfigError, match=r"train\.patience_share is 0\.01, which is no image of 30 different ones"):
        hold_out(data, TrainingConfig(patience=1, patience_share=0.01, seed=seed))


def test_resumed_is_undisturbed(make_trainer: Build, make_supernet: MakeSupernet, tmp_path: Path) -> None:
    undisturbed = make_supernet()
    given = SHORT | {"ema_decay": 0.5, "checkpoint_every": 4}
    expected = make_trainer(undisturbed, **given).run()
    for stop in (5, expected.steps):
        path = tmp_path / f"{stop}.safetensors"

        def end(step: int, stop: int = stop) -> None:
            if step == stop:
                raise StoppedError

        with pytest.raises(StoppedError):
            make_trainer(checkpoint=path, on_step=end, **given).run()
        for _ in range(2):  # the second time from the last checkpoint
            resumed = make_supernet()
            found = make_trainer(resumed, checkpoint=path, **given).run()
            assert (found.steps, found.kept_step, found.loss) == (expected.steps, expected.kept_step, expected.loss)
            assert equal(state_of(resumed), state_of(undisturbed))


def test_a_class_of_one_image_is_learnt(digits: SearchData, make_trainer: Build) -> None:
    single = part_of(digits.train, torch.tensor([digits.train.labels.tolist().index(label) for label in range(10)]))
    with pytest.raises(ConfigError, match="no class has two different training images"):
        make_trainer(data=single, patience=1)


def test_without_patience_a_recipe_is_as_before_and_pilots_have_none() -> None:
    assert identity(TrainingConfig(patience=0, patience_every=None, patience_share=0.1)) == {}
    section = TrainSection(patience=3, patience_every=10)
    assert (section.at(1e-3).patience, section.pilot(1e-3).patience) == (3, 0)
    assert section.at(1e-3).for_one_subnet(steps=5).patience == 3
