"""Classes with unequally many images: drawn equally often or weighted, seeded, resumed, over ranks and in stacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from support.data import few_digits
from support.models import tiny_vit
from support.stacks import double, largest_difference, members_of, part_of, space_of
from support.training import FastTrainer, state_of
from torch import Tensor

from glorasearch.data import TrainSplit
from glorasearch.stacked import MixedImages, StackedTrainer
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY
from glorasearch.tasks.classify import image_weights
from glorasearch.training import Fixed, SupernetTrainer
from glorasearch.training.balance import balanced_epoch, class_weights
from glorasearch.training.sampling import BatchOrder

Build = Callable[..., SupernetTrainer]
MakeSupernet = Callable[..., Supernet]
BALANCED = pytest.mark.parametrize("balance", ["sampler", "loss"])
labelled = st.lists(st.sampled_from([0, 0, 0, 0, 1, 1, 3, 7]), min_size=1, max_size=60).map(np.array)


@pytest.fixture(scope="module")
def unequal() -> TrainSplit:
    """Digits: all of the classes 0 to 4, two images each of the others."""
    data = few_digits().train
    rare = [torch.nonzero(data.labels == one).flatten()[:2] for one in range(5, 10)]
    return part_of(data, torch.cat([torch.nonzero(data.labels < 5).flatten(), *rare]))


@given(labels=labelled, seed=st.integers(0, 99))
def test_an_epoch_has_every_class_equally_often_and_its_images_in_turn(labels: Any, seed: int) -> None:
    found = balanced_epoch(labels, np.random.default_rng(seed))
    assert len(found) == len(labels)
    _, classes = np.unique(labels[found], return_counts=True)
    assert (len(classes), max(classes) - min(classes) <= 1) == (len(np.unique(labels)), True)
    for one in np.unique(labels):
        own = np.bincount(found[labels[found] == one], minlength=len(labels))[labels == one]
        assert max(own) - min(own) <= 1
    assert (found == balanced_epoch(labels, np.random.default_rng(seed))).all()


def test_batches_are_those_of_balanced_epochs_whatever_was_asked_before() -> None:
    labels = torch.tensor([0] * 9 + [1])
    order, other = BatchOrder(10, 4, 3, labels), BatchOrder(10, 4, 4, labels)
    stream = torch.cat([order.indices(step) for step in range(5)])
    assert [int((labels[stream[start : start + 10]] == 1).sum()) for start in (0, 10)] == [5, 5]
    assert torch.equal(BatchOrder(10, 4, 3, labels).indices(3), order.indices(3))
    assert not torch.equal(torch.cat([other.indices(step) for step in range(5)]), stream)


@given(labels=labelled)
@settings(deadline=None)
def test_the_weights_are_scikit_learns_balanced_ones(labels: Any) -> None:
    classes = np.unique(labels)
    found = class_weights(torch.from_numpy(labels), 9)
    assert found[classes].numpy() == pytest.approx(compute_class_weight("balanced", classes=classes, y=labels))
    assert set(found.tolist()) - set(found[classes].tolist()) <= {1.0}
    images = image_weights(torch.from_numpy(labels), found)
    assert float(images.mean()) == pytest.approx(1)
    soft = F.one_hot(torch.from_numpy(labels), 9).double()
    assert torch.equal(class_weights(soft, 9), found)
    assert torch.allclose(image_weights(soft, found), images)


def test_the_loss_is_torchs_weighted_one() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(12, 4, generator=generator), torch.arange(12) % 3
    weights = torch.tensor([0.5, 2.0, 1.5, 1.0])
    expected = F.cross_entropy(logits, labels, weight=weights) * weights[labels].mean()
    assert float(CLASSIFY.label_loss(logits, labels, 0.0, weights)) == pytest.approx(float(expected))
    each = F.cross_entropy(logits, labels, label_smoothing=0.2, reduction="none")
    assert float(CLASSIFY.label_loss(logits, labels, 0.2, weights)) == pytest.approx(
        float((each * weights[labels]).mean())
    )


@BALANCED
def test_killed_and_resumed_it_ends_with_the_same_bits(
    make_trainer: Build, make_supernet: MakeSupernet, unequal: TrainSplit, tmp_path: Path, balance: str
) -> None:
    def stop(step: int) -> None:
        if step == 7:
            raise KeyboardInterrupt

    whole, cut, again, plain = (make_supernet() for _ in range(4))
    recipe: dict[str, Any] = {"data": unequal, "balance": balance, "checkpoint_every": 4}
    make_trainer(whole, **recipe).run()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(cut, **recipe, checkpoint=tmp_path / "cut", on_step=stop).run()
    steps: list[int] = []
    make_trainer(again, **recipe, checkpoint=tmp_path / "cut", on_step=steps.append).run()
    make_trainer(plain, data=unequal).run()
    assert steps[0] == 4
    expected = state_of(whole)
    assert all(torch.equal(value, expected[name]) for name, value in state_of(again).items())
    assert not all(torch.equal(value, expected[name]) for name, value in state_of(plain).items())


@BALANCED
def test_ranks_share_a_step_as_one_would_do_it(
    make_trainer: Build, make_supernet: MakeSupernet, unequal: TrainSplit, balance: str
) -> None:
    """The weights of a rank's images do not depend on which other images it has."""
    states: list[dict[str, Tensor]] = []
    for ranks in (1, 4):
        supernet = make_supernet()
        alone: Any = lambda net: Fixed(net.space.largest())  # noqa: E731
        make_trainer(supernet, alone, data=unequal, balance=balance, ranks=ranks, steps=3, clip_norm=0.0).run()
        states.append(state_of(supernet))
    assert all(torch.allclose(value, states[1][name], atol=1e-5) for name, value in states[0].items())


@pytest.mark.parametrize("sandwich", [False, True])
def test_the_fused_step_weights_as_the_plain_one_does(
    make_supernet: MakeSupernet, unequal: TrainSplit, sandwich: bool
) -> None:
    config = SupernetTrainer.Config(
        steps=8, batch_size=16, balance="loss", strategy="sandwich" if sandwich else "uniform"
    )
    losses = []
    for kind in (SupernetTrainer, FastTrainer):
        supernet = make_supernet()
        losses.append(kind(supernet, unequal, Fixed(supernet.space.largest()), config).run().loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@BALANCED
def test_members_of_a_stack_end_as_they_do_alone(unequal: TrainSplit, balance: str) -> None:
    vit = double(tiny_vit())
    members = members_of(vit, space_of(vit), len(unequal), 3, balance=balance)
    assert largest_difference(vit, members, unequal) < 1e-7
    one, other = (StackedTrainer(vit, members, unequal, side_by_side=side_by_side) for side_by_side in (True, False))
    assert torch.allclose(one.run().loss, other.run().loss)


@BALANCED
def test_images_that_a_step_mixes_are_balanced_too(unequal: TrainSplit, balance: str) -> None:
    """Mixed labels weigh as much of each class as they hold, in a stack as alone."""
    vit = double(tiny_vit())
    members = members_of(vit, space_of(vit), len(unequal), 2, balance=balance, mixup=0.5)
    assert largest_difference(vit, members, unequal) < 1e-6


def test_mixed_images_are_balanced_by_their_targets(unequal: TrainSplit) -> None:
    vit, count = tiny_vit(), len(unequal)
    positions = torch.arange(count)
    targets = F.one_hot(unequal.labels, 10).float()
    mixed = MixedImages(first=positions, second=positions, share=torch.ones(count), targets=targets)
    for balance in ("sampler", "loss"):
        members = members_of(vit, space_of(vit), count, 2, balance=balance, label_smoothing=0.0)
        plain, taught = (StackedTrainer(vit, members, unequal, targets=given) for given in (None, mixed))
        assert torch.allclose(plain.run().loss, taught.run().loss, atol=1e-4)


@BALANCED
def test_rare_classes_are_no_longer_overlooked(
    make_trainer: Build, make_supernet: MakeSupernet, unequal: TrainSplit, balance: str
) -> None:
    images, labels = unequal.batch(slice(None))
    found = []
    for asked in ("none", balance):
        supernet = make_supernet()
        alone: Any = lambda net: Fixed(net.space.largest())  # noqa: E731
        make_trainer(supernet, alone, data=unequal, balance=asked, steps=30, lr=1e-2).run()
        with torch.inference_mode(), supernet.eval().activate(supernet.space.largest()):
            nats = F.cross_entropy(supernet(images), labels, reduction="none")
        found.append([float(nats[rare].mean()) for rare in (labels >= 5, labels < 5)])
    (rare, common), (rare_balanced, common_balanced) = found
    assert (rare > common + 0.5, rare_balanced < rare - 0.2) == (True, True), found
    assert abs(rare_balanced - common_balanced) < rare - common
