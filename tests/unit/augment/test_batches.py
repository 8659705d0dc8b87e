"""The images of a step: the same for the same seed, step and place, whoever asks for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glorasearch.data import TrainSplit
from glorasearch.training import TrainingConfig
from glorasearch.training.augment import AugmentedBatches, augmenter

Make = Callable[..., TrainSplit]
CPU = torch.device("cpu")
INDICES = torch.randperm(30, generator=torch.Generator().manual_seed(3))[:12]
RECIPES = {
    "light": {"augment": "light"},
    "timm": {"augment": "timm"},
    "strong": {"augment": "strong", "reprob": 1.0},
    "3a": {"auto_augment": "rand-m7-n3-mstd101-t3aw", "remode": "rand", "reprob": 0.5, "color_jitter": 0.3},
    "cutmix": {"cutmix": 1.0, "hflip": 0.5},
}


def batches(split: TrainSplit, **keys: object) -> AugmentedBatches:
    made = AugmentedBatches.of(TrainingConfig(**keys).augmentation, split)
    assert made is not None
    return made


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_step_is_a_function_of_seed_and_number(make_split: Make, name: str, channels: int) -> None:
    split = make_split(channels)
    images, targets = batches(split, **RECIPES[name]).rank(1, 7, INDICES, 0, 1, CPU)
    again, same = batches(make_split(channels), **RECIPES[name]).rank(1, 7, INDICES, 0, 1, CPU)
    assert torch.equal(images, again)
    assert torch.equal(targets, same)
    assert images.shape == (12, channels, 16, 16)
    assert bool(torch.isfinite(images).all())
    for seed, step in ((1, 8), (2, 7)):
        assert not torch.equal(images, batches(split, **RECIPES[name]).rank(seed, step, INDICES, 0, 1, CPU)[0])


@pytest.mark.parametrize("name", RECIPES)
def test_ranks_share_a_step_and_members_have_their_own(make_split: Make, name: str) -> None:
    own = batches(make_split(), **RECIPES[name])
    images, targets = own.rank(1, 7, INDICES, 0, 1, CPU)
    parts = [own.rank(1, 7, INDICES, rank, 3, CPU) for rank in range(3)]
    assert torch.allclose(torch.cat([part for part, _ in parts]), images, atol=1e-5)
    assert torch.allclose(torch.cat([part for _, part in parts]).double(), targets.double())
    found, wanted = own.members([4, 1], 7, torch.stack([INDICES.flip(0), INDICES]), CPU)
    assert torch.allclose(found[12:], images, atol=1e-5)
    assert torch.allclose(wanted[12:].double(), targets.double())
    other, _ = own.rank(4, 7, INDICES.flip(0), 0, 1, CPU)
    assert torch.allclose(found[:12], other, atol=1e-5)


def test_many_images_are_augmented_in_chunks(make_split: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    own = batches(make_split(), augment="strong")
    expected, wanted = own.rank(1, 7, INDICES, 0, 1, CPU)
    monkeypatch.setattr(augmenter, "CHUNK", 5)
    images, targets = own.rank(1, 7, INDICES, 0, 1, CPU)
    assert torch.allclose(images, expected, atol=1e-5)
    assert torch.equal(targets, wanted)


def test_only_crops_come_from_the_larger_view(make_split: Make) -> None:
    split, without = make_split(), make_split(larger=False)
    flipped = batches(split, hflip=1.0).rank(0, 0, INDICES, 0, 1, CPU)[0]
    assert torch.allclose(flipped, split.batch(INDICES)[0].flip(-1), atol=1e-5)
    cropped = batches(split, scale=[0.64, 0.64]).rank(0, 0, INDICES, 0, 1, CPU)[0]
    assert not torch.allclose(cropped, batches(without, scale=[0.64, 0.64]).rank(0, 0, INDICES, 0, 1, CPU)[0])
    # 0.64 of 20 x 20 pixels are 16 x 16 of them, at any place
    whole = split.view(INDICES, "cpu", "larger").float()
    assert float(cropped.min()) >= float((whole.min() / 255 - 0.4) / 0.3) - 1e-5
    assert batches(split, scale=[0.64, 0.64]).facts != batches(without, scale=[0.64, 0.64]).facts


def test_mixed_targets_say_what_is_in_the_image(make_split: Make) -> None:
    split = make_split()
    partners, labels = INDICES.flip(0), split.labels
    plain = split.batch(INDICES)[0]
    for keys in ({"mixup": 0.8}, {"cutmix": 1.0}):
        images, targets = batches(split, **keys).rank(2, 5, INDICES, 0, 1, CPU)
        assert torch.allclose(targets.sum(1), torch.ones(12))
        for number in range(12):
            own, other = plain[number], plain[11 - number]
            first, second = labels[INDICES[number]], labels[partners[number]]
            if "mixup" in keys:
                share = float(targets[number, first]) if first != second else None
                if share is not None:
                    assert torch.allclose(images[number], share * own + (1 - share) * other, atol=1e-4)
            else:
                near = [(images[number] - one).abs().amax(0) < 1e-4 for one in (own, other)]
                pasted = near[1] & ((own - other).abs().amax(0) > 1e-4)
                assert bool((pasted | near[0]).all())
                if first != second:
                    assert abs(float(targets[number, second]) - float(pasted.float().mean())) < 1e-5


def test_erasing_leaves_one_rectangle(make_split: Make) -> None:
    split = make_split()
    plain = split.batch(INDICES)[0]
    images, _ = batches(split, reprob=1.0, remode="const").rank(0, 1, INDICES, 0, 1, CPU)
    for before, after in zip(plain, images, strict=True):
        erased = ((before - after).abs() > 1e-4).any(0)
        rows, columns = erased.any(1).nonzero(), erased.any(0).nonzero()
        box = (slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1))
        assert bool(erased[box].all())
        assert float(after[:, box[0], box[1]].abs().max()) == 0
        assert erased[box].sum() == erased.sum()
        assert 0.01 < float(erased.float().mean()) < 0.45


def test_targets_of_several_labels_are_mixed_as_they_are(make_split: Make) -> None:
    split = make_split()
    several = torch.rand(30, 10, generator=torch.Generator().manual_seed(0)).round()
    labelled = TrainSplit(split._pixels, several, split.spec, split._fingerprints, 10)
    plain, labels = batches(labelled, hflip=1.0).rank(0, 0, INDICES, 0, 1, CPU)
    assert torch.equal(labels, several[INDICES])
    images, targets = batches(labelled, hflip=1.0, mixup=0.8).rank(0, 0, INDICES, 0, 1, CPU)
    own, other = several[INDICES], several[INDICES.flip(0)]
    share = ((images - plain.flip(0)) / (plain - plain.flip(0))).nanmedian(-1)[0].nanmedian(-1)[0].nanmedian(-1)[0]
    assert torch.allclose(targets, share[:, None] * own + (1 - share[:, None]) * other, atol=1e-3)
