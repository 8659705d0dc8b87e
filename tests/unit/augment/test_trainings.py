"""Trainings on augmented images: resumed, fused, side by side, taught; and what scores images never sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.data import few_digits
from support.models import tiny_vit
from support.stacks import double, largest_difference, members_of, space_of
from support.training import FastTrainer, state_of
from torch import Tensor

from glorasearch.data import SearchData
from glorasearch.space import SearchSpace
from glorasearch.stacked import MixedImages, StackedTrainer
from glorasearch.stacked.targets import Batches
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, Sandwich, SupernetTrainer, TrainingConfig, Uniform

STRONG: dict[str, Any] = {"augment": "strong", "reprob": 0.5}
PRESETS = pytest.mark.parametrize("keys", [{"augment": "light"}, STRONG], ids=["light", "strong"])


@pytest.fixture(scope="module")
def digits() -> SearchData:
    return few_digits()


def make_supernet() -> Supernet:
    forms = ["none", "constant", "vector", "lora:1"]
    return Supernet(tiny_vit(), SearchSpace.from_dict({"name": "tiny", "choices": {"A": forms, "B": forms}}))


def trained(supernet: Supernet, data: SearchData, config: TrainingConfig, **given: Any) -> dict[str, Tensor]:
    SupernetTrainer(supernet, data.train, Uniform(supernet.space, 0), config, **given).run()
    return state_of(supernet)


def recipe(**keys: Any) -> TrainingConfig:
    return TrainingConfig(**{"steps": 9, "batch_size": 8, "checkpoint_every": 4, "warmup_steps": 2} | keys)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_without_augmentation_the_bits_are_as_ever(digits: SearchData) -> None:
    """Written out or not; a key that changes nothing changes nothing."""
    plain = trained(make_supernet(), digits, recipe())
    assert equal(plain, trained(make_supernet(), digits, recipe(augment="none", hflip=0.0, scale=[1, 1])))
    assert not equal(plain, trained(make_supernet(), digits, recipe(augment="light")))


@PRESETS
def test_killed_and_resumed_ends_with_the_same_bits(digits: SearchData, tmp_path: Path, keys: dict[str, Any]) -> None:
    config = recipe(**keys)
    expected = trained(make_supernet(), digits, config)

    def stop(step: int) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(make_supernet(), digits, config, checkpoint=tmp_path / "cut", on_step=stop)
    steps: list[int] = []
    again = trained(make_supernet(), digits, config, checkpoint=tmp_path / "cut", on_step=steps.append)
    assert steps[0] == 4
    assert equal(expected, again)


def test_a_checkpoint_of_other_augmentation_is_not_resumed(digits: SearchData, tmp_path: Path) -> None:
    trained(make_supernet(), digits, recipe(), checkpoint=tmp_path / "one")
    steps: list[int] = []
    trained(make_supernet(), digits, recipe(augment="light"), checkpoint=tmp_path / "one", on_step=steps.append)
    assert steps[0] == 1


@PRESETS
@pytest.mark.parametrize("sandwich", [False, True])
def test_the_fused_step_learns_from_the_same_images(digits: SearchData, keys: dict[str, Any], sandwich: bool) -> None:
    losses = []
    for kind in (SupernetTrainer, FastTrainer):
        supernet = make_supernet()
        strategy = Sandwich(supernet.space, 0) if sandwich else Fixed(supernet.space.largest())
        losses.append(kind(supernet, digits.train, strategy, recipe(label_smoothing=0.1, **keys)).run().loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@PRESETS
def test_members_of_a_stack_end_as_they_do_alone(digits: SearchData, keys: dict[str, Any]) -> None:
    vit = double(tiny_vit())
    members = members_of(vit, space_of(vit), len(digits.train), 3, **keys)
    assert largest_difference(vit, members, digits.train) < 1e-4  # images are float32
    one, other = (StackedTrainer(vit, members, digits.train, side_by_side=side) for side in (True, False))
    assert torch.allclose(one.run().loss, other.run().loss)


def test_members_of_a_stack_may_be_augmented_differently(digits: SearchData) -> None:
    vit, count, cpu = tiny_vit(), len(digits.train), torch.device("cpu")
    kinds = [members_of(vit, space_of(vit), count, 3, **keys) for keys in (STRONG, {}, {"augment": "light"})]
    members = [kinds[0][0], kinds[1][1], kinds[2][2], kinds[0][2]]
    images, targets = Batches(members, digits.train, None).batch(3, cpu)
    assert targets.shape == (4, members[0].config.batch_size, 10)
    for number, own in enumerate(images.chunk(4)):
        alone, wanted = Batches([members[number]], digits.train, None).batch(3, cpu)
        assert torch.allclose(own, alone, atol=1e-5)
        expected = wanted[0] if wanted.ndim == 3 else torch.nn.functional.one_hot(wanted[0], 10).float()
        assert torch.allclose(targets[number], expected)


def test_students_of_teachers_see_augmented_images_and_keep_their_targets(digits: SearchData) -> None:
    vit, count = tiny_vit(), len(digits.train)
    positions = torch.arange(count)
    targets = torch.softmax(torch.randn(count, 10, generator=torch.Generator().manual_seed(0)), -1)
    mixed = MixedImages(first=positions, second=positions.flip(0), share=torch.full((count,), 0.7), targets=targets)
    found = []
    for keys in ({}, {"augment": "light"}, {"augment": "light"}, STRONG):
        trainer = StackedTrainer(vit, members_of(vit, space_of(vit), count, 2, **keys), digits.train, targets=mixed)
        images, wanted = trainer._batches.batch(3, torch.device("cpu"))
        assert torch.equal(wanted, targets[trainer._batches.positions(3)])
        found.append(images)
    assert torch.equal(found[1], found[2])
    assert not torch.equal(found[0], found[1])
    assert found[3].shape == found[0].shape


@PRESETS
def test_what_is_scored_is_not_augmented(digits: SearchData, keys: dict[str, Any]) -> None:
    """Judged images of a stack, and the split itself, are the plain ones after a training."""
    vit, count = tiny_vit(), len(digits.train)
    before = digits.train.batch(slice(None))[0].clone(), digits.search.batch(slice(None))[0].clone()
    trainer = StackedTrainer(vit, members_of(vit, space_of(vit), count, 2, **keys), digits.train)
    trainer.run()
    logits = trainer.logits(digits.search, torch.arange(5))
    assert torch.equal(logits, trainer.logits(digits.search, torch.arange(5)))
    assert torch.equal(before[0], digits.train.batch(slice(None))[0])
    assert torch.equal(before[1], digits.search.batch(slice(None))[0])
