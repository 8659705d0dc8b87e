"""The folds of a race keep an image and its copies together, whatever is learnt, and stay even."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.data import few_digits

from glorasearch.data import TrainSplit
from glorasearch.data.pixels import ResidentPixels
from glorasearch.race import fold_of
from glorasearch.runs.race_images import race_folds
from glorasearch.tasks import CLASSIFY, MULTILABEL, Regress, Standard, Task

FOLDS, COPIED = 5, 23
NUMBERS = Regress([Standard((4.5,), (2.9,))])
TASKS = pytest.mark.parametrize("task", [CLASSIFY, MULTILABEL, NUMBERS], ids=lambda task: task.kind)


def digits_of(task: Task, *, copies: bool) -> TrainSplit:
    """Digits, each with its number as its class, as ten labels, or as a number; some of them twice."""
    data = few_digits().train
    positions = torch.arange(len(data))
    if copies:
        positions = torch.cat([positions, torch.arange(COPIED)])
    digits = data.labels[positions]
    targets = {
        "classify": digits,
        "multilabel": torch.nn.functional.one_hot(digits, 10).float(),
        "regress": digits[:, None].float(),
    }[task.kind]
    prints = [data._fingerprints[position] for position in positions.tolist()]
    pixels = ResidentPixels(data._pixels.gather(positions))
    outputs = 1 if task is NUMBERS else 10
    return TrainSplit(pixels, targets, data.spec, prints, outputs, task=task)


@TASKS
@pytest.mark.parametrize("seed", range(5))
def test_copies_are_in_one_fold_and_groups_are_even(task: Task, seed: int) -> None:
    split = digits_of(task, copies=True)
    found = race_folds(split, FOLDS, seed)
    assert found[-COPIED:].tolist() == found[:COPIED].tolist()
    assert found.tolist() == race_folds(split, FOLDS, seed).tolist()
    groups = task.strata(split.labels.numpy())
    for group in np.unique(groups):
        sizes = np.bincount(found[groups == group], minlength=FOLDS)
        assert sizes.max() - sizes.min() <= 2, "an image and its copy are indivisible"
    sizes = np.bincount(found, minlength=FOLDS)
    assert sizes.max() - sizes.min() <= 2


@TASKS
def test_folds_of_different_images_are_those_of_their_labels_alone(task: Task) -> None:
    split = digits_of(task, copies=False)
    expected = fold_of(task.strata(split.labels.numpy()), FOLDS, 3)
    assert race_folds(split, FOLDS, 3).tolist() == expected.tolist()
