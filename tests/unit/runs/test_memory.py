"""Models that do not fit into memory side by side are trained in halves, each of them once and in order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from glorasearch.runs.memory import in_halves


class Device:
    """Has memory for so many models."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.asked: list[int] = []

    def train(self, models: Sequence[int]) -> list[int]:
        self.asked.append(len(models))
        if len(models) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [10 * model for model in models]


@pytest.mark.parametrize(
    ("limit", "asked"),
    [(9, [7]), (4, [7, 4, 3]), (3, [7, 4, 2, 2, 3]), (1, [7, 4, 2, 1, 1, 2, 1, 1, 3, 2, 1, 1, 1])],
)
def test_as_few_parts_as_fit(limit: int, asked: list[int], caplog: pytest.LogCaptureFixture) -> None:
    device = Device(limit)
    found = in_halves(device.train, range(7), "set a smaller race.stack")
    assert [model for part, _ in found for model in part] == list(range(7))
    assert [outcome for _, one in found for outcome in one] == [10 * model for model in range(7)]
    assert device.asked == asked
    assert len(caplog.messages) == sum(count > limit for count in asked)
    if limit < 7:
        assert caplog.messages[0] == (
            "7 models side by side do not fit into the GPU's memory: trained in two halves; set a smaller race.stack"
        )


def test_one_that_does_not_fit_alone_ends_it() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        in_halves(Device(0).train, [1, 2], "")
