"""The keys of a recipe: presets, single keys, refusals, and what stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

from glorasearch.errors import ConfigError
from glorasearch.identity import identity
from glorasearch.training import TrainingConfig, TrainSection
from glorasearch.training.augment.draws import draw
from glorasearch.training.augment.policy import OPERATIONS, parse_policy

MANY = 4_000


def test_nothing_is_augmented_unless_it_is_asked_for() -> None:
    assert not TrainingConfig().augmentation.changes
    assert identity(TrainingConfig()) == {}
    assert identity(TrainSection(augment="none")) == {}
    for key, value in {"hflip": 0.5, "mixup": 0.2, "reprob": 0.1, "scale": [0.5, 1], "auto_augment": "3a"}.items():
        assert TrainingConfig(**{key: value}).augmentation.changes
        assert identity(TrainingConfig(**{key: value})) == {key: value}


def test_light_neither_flips_nor_erases_nor_mixes() -> None:
    light = TrainingConfig(augment="light").augmentation
    draws = draw(light, np.random.default_rng(0), MANY)
    assert (draws.flips == 1).all()
    assert not draws.erased.any()
    assert not light.mixes
    assert light.policy is None
    assert 0.8 <= (draws.crop[:, 2] * draws.crop[:, 3]).min() < 0.81
    assert (abs(draws.jitter - 1) <= 0.1).all()


def test_keys_change_parts_of_a_preset() -> None:
    timm = TrainingConfig(augment="timm").augmentation
    assert (timm.scale, timm.hflip, timm.jitter) == ((0.08, 1.0), 0.5, (0.4, 0.4, 0.4))
    own = TrainingConfig(augment="timm", hflip=0, scale=[0.5, 0.9]).augmentation
    assert (own.scale, own.hflip, own.jitter) == ((0.5, 0.9), 0, (0.4, 0.4, 0.4))
    assert TrainingConfig(augment="timm", auto_augment="original").augmentation.jitter == (0, 0, 0)
    assert TrainingConfig(auto_augment="v0", color_jitter=0.2).augmentation.jitter == (0.2, 0.2, 0.2)
    assert TrainingConfig(color_jitter=[0.1, 0.2, 0.3]).augmentation.jitter == (0.1, 0.2, 0.3)
    strong = TrainingConfig(augment="strong").augmentation
    assert strong.policy == parse_policy("rand-m9-mstd0.5-inc1")
    assert TrainingConfig(augment="strong", auto_augment="").augmentation.policy is None
    refit = TrainSection(augment="light", hflip=0.5).at(1e-3).for_one_subnet(steps=3)
    assert (refit.augment, refit.hflip) == ("light", 0.5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"augment": "heavy"}, "augment"),
        ({"scale": [0.9, 0.5]}, "scale is [0.9, 0.5]; expected two numbers above 0 and up to 1, the smaller first"),
        ({"scale": [0.0, 0.5]}, "scale is"),
        ({"ratio": [-1, 2]}, "ratio is"),
        ({"color_jitter": [0.1, 0.2]}, "expected a number from 0 to 10, or three, of brightness"),
        ({"color_jitter": "strong"}, "expected a number from 0 to 10"),
        ({"auto_augment": "augmix-m5"}, "auto_augment is 'augmix-m5'; expected RandAugment such as"),
        ({"auto_augment": "rand-m9-mtsd0.5"}, "auto_augment is 'rand-m9-mtsd0.5'"),
        ({"auto_augment": "rand-m9-n0"}, "from 1 to 16"),
        ({"mixup": -0.1}, "mixup"),
        ({"hflip": 1.5}, "hflip"),
    ],
)
def test_refusals(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrainSection(**keys)
    assert message in str(error.value)


def test_crops_have_the_areas_and_ratios_that_are_asked_for() -> None:
    crop = draw(TrainingConfig(augment="timm").augmentation, np.random.default_rng(1), MANY).crop
    centre, size = crop[:, :2], crop[:, 2:]
    assert (centre - size / 2 >= -1e-9).all()
    assert (centre + size / 2 <= 1 + 1e-9).all()
    area, aspect = size.prod(axis=1), size[:, 0] / size[:, 1]
    assert 0.079 < area.min() < 0.1
    assert area.max() > 0.95
    assert abs(area.mean() - 0.5) < 0.03
    assert abs(aspect).min() > 0.7499
    assert aspect.max() < 1.3334
    wide = draw(TrainingConfig(scale=[1, 1], ratio=[4, 4]).augmentation, np.random.default_rng(1), 3).crop
    assert wide.tolist() == [[0.5, 0.5, 1, 0.25]] * 3  # none fits: the middle


def test_rand_augment_draws_its_operations_equally_often_and_half_of_the_layers() -> None:
    policy = parse_policy("rand-m9-mstd0.5-inc1")
    codes, values = policy.draw(np.random.default_rng(0), MANY)
    assert codes.shape == (MANY, 2)
    assert abs((codes < 0).mean() - 0.5) < 0.02
    counts = np.bincount(codes[codes >= 0], minlength=len(OPERATIONS))
    expected = [name not in ("Desaturate", "GaussianBlur") for name in OPERATIONS]
    assert ((counts > 0) == expected).all()
    assert counts[expected].max() < 1.3 * counts[expected].min()
    rotated = np.degrees(values[codes == OPERATIONS.index("Rotate")])
    assert abs(abs(rotated).mean() - 27) < 0.5
    assert abs((rotated < 0).mean() - 0.5) < 0.1


def test_auto_augment_draws_one_of_its_pairs_and_weights_count() -> None:
    codes, _ = parse_policy("original").draw(np.random.default_rng(0), MANY)
    pairs = {tuple(OPERATIONS[code] for code in pair) for pair in codes.tolist() if min(pair) >= 0}
    assert ("Posterize", "Rotate") in pairs
    assert ("Rotate", "Posterize") not in pairs
    weighted = parse_policy("rand-m9-p1-tweights")
    codes, _ = weighted.draw(np.random.default_rng(0), MANY)
    assert (codes[:, 0] != codes[:, 1]).all()
    counts = np.bincount(codes[:, 0], minlength=len(OPERATIONS))
    assert 9 < counts[OPERATIONS.index("Rotate")] / counts[OPERATIONS.index("AutoContrast")] < 15


def test_a_key_changes_no_draw_of_the_others() -> None:
    one = draw(TrainingConfig(augment="timm").augmentation, np.random.default_rng(5), 50)
    other = draw(TrainingConfig(augment="timm", reprob=0.5, mixup=1).augmentation, np.random.default_rng(5), 50)
    assert (one.crop == other.crop).all()
    assert (one.flips == other.flips).all()
    assert other.erased.any()
    assert (other.share < 1).all()
