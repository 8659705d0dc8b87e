"""Stacks that learn several labels an image: each member's loss, and what it becomes, are those of it alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support.stacks import differences, members_of, recipe, space_of
from torch import Tensor, nn

from glorasearch.data import SearchData, TrainSplit
from glorasearch.data.pixels import ResidentPixels
from glorasearch.errors import ConfigError
from glorasearch.runs.race_images import race_folds
from glorasearch.stacked import Member, MixedImages, StackedTrainer
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY, MULTILABEL
from glorasearch.training import Fixed, SupernetTrainer

OUTPUTS = 10
SIDES = pytest.mark.parametrize("side_by_side", [True, False])


def labelled(data: TrainSplit, chosen: list[int] | None = None) -> TrainSplit:
    """Some images of a split of digits, with a label for each number that divides the digit, and for the digit."""
    positions = torch.arange(len(data)) if chosen is None else torch.tensor(chosen)
    digits = data.labels[positions]
    targets = ((digits[:, None] % torch.arange(1, OUTPUTS + 1)) == 0).float()
    prints = [data._fingerprints[position] for position in positions.tolist()]
    return TrainSplit(
        ResidentPixels(data._pixels.gather(positions)), targets, data.spec, prints, OUTPUTS, task=MULTILABEL
    )


def test_the_loss_of_each_member_is_its_own_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 7, 5, generator=generator, dtype=torch.float64)
    targets = (torch.rand(4, 7, 5, generator=generator) < 0.4).double()
    shares = [0.0, 0.1, 0.3, 1.0]
    found = MULTILABEL.member_losses(logits, targets, torch.tensor(shares))
    soft = torch.rand(4, 7, 5, generator=generator, dtype=torch.float64)
    taught = MULTILABEL.member_losses(logits, soft, torch.zeros(4))
    for member, share in enumerate(shares):
        z, y = logits[member], targets[member] * (1 - share) + share / 2
        equation = (y * F.softplus(-z) + (1 - y) * F.softplus(z)).mean()
        assert float(found[member]) == pytest.approx(float(equation), rel=1e-7)  # shares are float32 here
        alone = MULTILABEL.label_loss(z, targets[member], share)
        assert float(found[member]) == pytest.approx(float(alone), rel=1e-7)
        distilled = MULTILABEL.distillation_loss(z, soft[member])
        assert float(taught[member]) == pytest.approx(float(distilled), rel=1e-14)
    with pytest.raises(ValueError, match="no weights of classes"):
        MULTILABEL.member_losses(logits, targets, torch.zeros(4), torch.ones(4, 5))


def test_the_gradient_of_a_member_is_that_of_its_loss_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(3, 6, 4, generator=generator, dtype=torch.float64).round()
    (found,) = torch.autograd.grad(MULTILABEL.member_losses(logits, targets, torch.zeros(3)).sum(), logits)
    torch.testing.assert_close(found, (logits.sigmoid() - targets).detach() / 24, rtol=1e-12, atol=1e-15)


@SIDES
def test_members_become_what_each_becomes_alone(vit: nn.Module, data: SearchData, side_by_side: bool) -> None:
    split = labelled(data.train)
    members = members_of(vit, space_of(vit), len(split), 3)
    trainer = StackedTrainer(vit, members, split, side_by_side=side_by_side)
    assert bool(trainer.run().finite.all())
    assert trainer.kind == ("side by side" if side_by_side else "one by one")
    for number, member in enumerate(members):
        supernet = Supernet(vit, member.space, seed=member.config.seed)
        if member.start is not None:
            supernet.load_adapter_state(member.start)
        before = {name: value.clone() for name, value in supernet.adapter_state().items()}
        seen = labelled(data.train, member.images.tolist())
        SupernetTrainer(supernet, seen, Fixed(member.subnet), member.config).run()
        alone = supernet.adapter_state()
        assert any(not torch.equal(before[name], value) for name, value in alone.items())
        assert max(differences(alone, trainer.state(number)).values()) < 1e-5  # smooth targets alone are float32


@SIDES
def test_answers_of_teachers_are_learnt(vit: nn.Module, data: SearchData, side_by_side: bool) -> None:
    """A head alone, in one step of Adam, against a loop written down; rows have any sum."""
    split, every = labelled(data.train), torch.arange(12)
    targets = torch.rand(12, OUTPUTS, generator=torch.Generator().manual_seed(0))
    share = torch.linspace(0, 1, 12)
    mixed = MixedImages(first=every, second=every + 20, share=share, targets=targets)
    space = space_of(vit, {"E": ["none"]})
    config = recipe(batch_size=12, clip_norm=0.0, weight_decay=0.0, label_smoothing=0.1, warmup_steps=0, steps=1)
    member = Member(space=space, subnet=space.largest(), config=config, images=every)
    trainer = StackedTrainer(vit, [member], split, targets=mixed, side_by_side=side_by_side)
    trainer.run()
    images, _ = split.batch(torch.arange(32))
    blended = share.view(-1, 1, 1, 1) * images[:12] + (1 - share).view(-1, 1, 1, 1) * images[20:32]
    model = Supernet(vit, space).model
    adam = torch.optim.Adam(model.get_submodule("head").parameters(), lr=config.lr)
    F.binary_cross_entropy_with_logits(model(blended), 0.9 * targets.double() + 0.05).backward()
    adam.step()
    expected = {name: value.detach() for name, value in model.named_parameters() if name.startswith("head.")}
    found = {name: value for name, value in trainer.state(0).items() if name.startswith("head.")}
    assert max(differences(expected, found).values()) < 1e-6


def test_what_fits_no_task_is_refused(vit: nn.Module, data: SearchData) -> None:
    split, three = labelled(data.train), torch.arange(3)
    (member,) = members_of(vit, space_of(vit), 3, 1)
    member = replace(member, images=three)

    def mixed(targets: Tensor) -> MixedImages:
        return MixedImages(first=three, second=three, share=torch.ones(3), targets=targets)

    mixed(torch.ones(3, OUTPUTS)).check(3, MULTILABEL)
    mixed(torch.full((3, OUTPUTS), 0.1)).check(3, CLASSIFY)
    with pytest.raises(ConfigError, match="each row of sum 1"):
        mixed(torch.ones(3, OUTPUTS)).check(3, CLASSIFY)
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="each from 0 to 1"):
            StackedTrainer(vit, [member], split, targets=mixed(torch.full((3, OUTPUTS), wrong)))
    with pytest.raises(ConfigError, match="balance is 'loss', but images with several labels"):
        StackedTrainer(vit, [replace(member, config=recipe(balance="loss"))], split)


def test_folds_are_drawn_at_random_and_copies_stay_together(data: SearchData) -> None:
    split = labelled(data.train)
    found = race_folds(split, 7, 3)
    assert sorted(torch.bincount(torch.from_numpy(found)).tolist()) == [8, 8, 8, 9, 9, 9, 9]
    assert found.tolist() == race_folds(split, 7, 3).tolist()
    assert found.tolist() != race_folds(split, 7, 4).tolist()
    twice = labelled(data.train, [*range(60), *range(30)])
    copies = race_folds(twice, 7, 3)
    assert copies[:30].tolist() == copies[60:].tolist()
    with pytest.raises(ValueError, match="60 different images cannot be shared among 61 folds"):
        race_folds(split, 61, 0)
