"""Crops, flips and operations that move pixels, against torchvision."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from glorasearch.training import TrainingConfig
from glorasearch.training.augment.draws import Draws, draw
from glorasearch.training.augment.geometry import flip, maps, resample
from glorasearch.training.augment.policy import OPERATIONS


def plain(images: int) -> Draws:
    return draw(TrainingConfig().augmentation, np.random.default_rng(0), images)


def noise(*shape: int) -> Tensor:
    return 255 * torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def moved(images: Tensor, draws: Draws, height: int, width: int, fill: Tensor | None = None) -> Tensor:
    return resample(images, torch.from_numpy(maps(draws, height, width)).float(), height, width, fill)


def test_nothing_drawn_moves_nothing() -> None:
    images = noise(3, 3, 10, 14)
    assert torch.allclose(moved(images, plain(3), 10, 14), images, atol=1e-2)


def test_a_crop_is_the_box_resized() -> None:
    images, draws = noise(2, 3, 40, 30), plain(2)
    draws.crop[:] = [[15 / 30, 20 / 40, 10 / 30, 20 / 40], [10 / 30, 10 / 40, 20 / 30, 16 / 40]]
    found = moved(images, draws, 20, 10)
    for image, own, (top, left, height, width) in zip(images, found, [(10, 10, 20, 10), (2, 0, 16, 20)], strict=True):
        box = image[None, :, top : top + height, left : left + width]
        expected = torch.nn.functional.interpolate(box, (20, 10), mode="bilinear", align_corners=False)[0]
        inner = (slice(None), slice(1, -1), slice(1, -1))  # at a box's edge the crop has neighbours that the box lacks
        assert torch.allclose(own[inner], expected[inner], atol=0.05)


def test_flips_are_exact_and_those_of_the_map_are_the_same() -> None:
    images, draws = noise(4, 1, 9, 12), plain(4)
    draws.flips[:] = [[1, 1], [-1, 1], [1, -1], [-1, -1]]
    expected = torch.stack([images[0], images[1].flip(-1), images[2].flip(-2), images[3].flip(-1, -2)])
    assert torch.equal(flip(images, torch.from_numpy(draws.flips)), expected)
    assert torch.allclose(moved(images, draws, 9, 12), expected, atol=1e-2)


def test_places_are_those_of_torchs_affine_grid() -> None:
    """Whole numbers and floats give the same; another order of the sums moves a place by less than 1e-4 pixels."""
    images = (noise(6, 3, 30, 44)).round()
    theta = torch.eye(2, 3) + 0.4 * torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(7))
    grid = torch.nn.functional.affine_grid(theta, [6, 3, 18, 25], align_corners=False)
    for fill, mode in ((None, "border"), (torch.full((3, 1, 1), 90.0), "zeros")):
        found = resample(images, theta, 18, 25, fill)
        shift = 0 if fill is None else fill
        expected = torch.nn.functional.grid_sample(images - shift, grid, padding_mode=mode, align_corners=False) + shift
        assert torch.allclose(found, expected, atol=2e-2)
        assert torch.equal(found, resample(images.to(torch.uint8), theta, 18, 25, fill))


def test_operations_are_torchvisions() -> None:
    images, fill = noise(1, 3, 24, 36), torch.full((3, 1, 1), 100.0)
    cases = {
        "Rotate": (math.radians(20), 20.0, [0, 0]),
        "TranslateXRel": (0.25, 0.0, [-9, 0]),
        "TranslateYRel": (-0.25, 0.0, [0, 6]),
    }
    for name, (value, angle, translate) in cases.items():
        draws = replace(plain(1), operations=np.array([[OPERATIONS.index(name)]]), arguments=np.array([[value]]))
        found = moved(images, draws, 24, 36, fill)
        expected = v2.affine(
            images, angle, translate, 1.0, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR, fill=[100.0] * 3
        )
        inner = (..., slice(3, -3), slice(3, -3))
        assert float((found[inner] - expected[inner]).abs().median()) < 0.01, name


def test_shears_move_rows_and_columns_about_the_middle() -> None:
    images = torch.arange(20.0).view(1, 1, 1, 20).expand(1, 1, 11, 20)
    one = np.array([[OPERATIONS.index("ShearX")]])
    draws = replace(plain(1), operations=one, arguments=np.array([[0.5]]))
    found = moved(images.contiguous(), draws, 11, 20)[0, 0]
    assert torch.allclose(found[5, 4:16], images[0, 0, 5, 4:16], atol=1e-3)
    assert torch.allclose(found[9, 4:16], images[0, 0, 5, 4:16] + 2, atol=1e-3)  # four rows below the middle
    assert torch.allclose(found[1, 4:16], images[0, 0, 5, 4:16] - 2, atol=1e-3)
