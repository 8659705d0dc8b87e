"""Rectangles on the grid of pixels, what is left in them, and what is mixed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from glorasearch.training.augment.draws import NOISE
from glorasearch.training.augment.rectangles import Eraser, Mixing, edges, mix_images

BOXES = np.array([[0.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.6, 0.9], [0.0, 0.0, 1.0, 1.0], [0.31, 0.5, 0.32, 0.51]])


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def inside(boxes: np.ndarray) -> Tensor:
    """`(n, 1, 6, 10)` bool."""
    columns, rows = (torch.from_numpy(one) > 0 for one in edges(boxes, 6, 10))
    return columns[:, None, None, :] & rows[:, None, :, None]


def test_a_pixel_is_in_a_rectangle_if_its_middle_is() -> None:
    columns, rows = edges(BOXES, 6, 10)
    for box, across, along in zip(BOXES, columns, rows, strict=True):
        assert across.tolist() == [float(box[0] <= (place + 0.5) / 10 < box[2]) for place in range(10)]
        assert along.tolist() == [float(box[1] <= (place + 0.5) / 6 < box[3]) for place in range(6)]


def test_mixtures_are_blends_or_pasted_to_the_bit() -> None:
    images, others = normal(4, 3, 6, 10), normal(4, 3, 6, 10).flip(0)
    share, boxes = np.array([0.3, 1.0, 1.0, 0.0]), np.concatenate([BOXES[:3], BOXES[:1]])
    mixing = Mixing(share, boxes, 6, 10)
    mixed = mix_images(images, others, *(torch.from_numpy(one) for one in mixing.arrays))
    blended = torch.lerp(others, images, torch.tensor(share).float().view(-1, 1, 1, 1))
    assert torch.equal(mixed, torch.where(inside(boxes), others, blended))
    assert torch.equal(mixed[2:], others[2:])
    assert np.allclose(mixing.own, share * (1 - inside(boxes).float().mean(dim=(1, 2, 3)).numpy()))


def test_noise_is_cut_out_of_one_row_that_begins_again() -> None:
    images, begin = normal(3, 3, 6, 10), torch.tensor([5, NOISE - 7, 0])
    boxes = BOXES[[1, 2, 0]]
    across, along = (torch.from_numpy(one) for one in edges(boxes, 6, 10))
    erased = Eraser("pixel")(images, across, along, normal(3, 3), begin)
    row = torch.from_numpy(np.random.default_rng(0).standard_normal(NOISE, dtype=np.float32))
    places = (begin[:, None] + torch.arange(180)) % NOISE
    assert torch.equal(erased, torch.where(inside(boxes), row[places].view(3, 3, 6, 10), images))
    assert torch.equal(erased[2], images[2])
