"""What is counted as operations and memory, and that augmentation needs few of them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch

Benches = Callable[[str], ModuleType]


def test_operations_and_bytes_are_counted_and_views_are_not(benches: Benches) -> None:
    one, row = torch.zeros(10, 4), torch.zeros(4)
    with benches("operations").Operations() as found:
        added = one + row.expand(10, 4)  # 160 + 16 bytes read, 160 written
        added.view(4, 10).unbind(1)
        chosen = one[torch.tensor([1, 3])]  # 32 bytes of it, 16 of places, 32 written
        one[torch.tensor([1])] = chosen[:1]  # 16 bytes, 8 of places, 16 written
    assert found.counts == {"aten.add.Tensor": 1, "aten.index.Tensor": 1, "aten.index_put_.default": 1}
    assert found.count == 3
    assert found.by_name["aten.add.Tensor"] == 336
    assert found.by_name["aten.index.Tensor"] == 80
    assert found.by_name["aten.index_put_.default"] == 40
    assert found.bytes == 456


def test_a_batch_is_augmented_in_few_operations_and_few_passes_over_its_images(benches: Benches) -> None:
    """A GPU needs some microseconds for each: with one computation for each operation and layer, `strong` had 245."""
    counted = benches("bench_augment").counted(["none", "light", "strong"], 32, 64, 10)
    operations = [row.measured for row in counted if row.what.endswith("operations")]
    memory = [row.measured for row in counted if row.what.endswith("memory")]
    images = 64 * 3 * 32 * 32 * 4 / 1e6
    assert len(operations) == len(memory) == 2
    assert 20 < operations[0] <= 50
    assert 60 < operations[1] <= 125
    assert 15 < memory[0] / images <= 33  # times as much as the batch has, read and written
    assert 10 < memory[1] / images <= 31
