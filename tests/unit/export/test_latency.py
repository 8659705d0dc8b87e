"""Two models take turns, so that what slows the machine slows both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glorasearch.export.latency import LEAST, MOST, WARM_UP, side_by_side


class Busy(nn.Module):
    """Multiplies matrices, and notes that it was asked."""

    def __init__(self, name: str, times: int, asked: list[str]) -> None:
        super().__init__()
        self.name, self.times, self.asked = name, times, asked

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        self.asked.append(self.name)
        for _ in range(self.times):
            images = images @ images
        return images


def test_they_take_turns_and_each_is_first_in_every_other_pair() -> None:
    asked: list[str] = []
    original, merged = Busy("original", 1, asked).train(), Busy("merged", 20, asked)
    found = side_by_side(original, merged, torch.eye(64).expand(1, 1, 64, 64))
    pairs = [tuple(asked[i : i + 2]) for i in range(2 * WARM_UP, len(asked), 2)]
    assert pairs[:4] == [("original", "merged"), ("merged", "original")] * 2
    assert LEAST <= found.pairs == len(pairs) <= MOST
    assert found.interval[0] <= found.ratio <= found.interval[1]
    assert found.ratio > 2
    assert found.merged > found.original > 0
    assert (found.images, found.device, found.threads) == (1, "cpu", torch.get_num_threads())
    assert original.training
