"""Checkpoints that are written while the training goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glorasearch.errors import WeightStoreError
from glorasearch.weights import CheckpointWriter, load_checkpoint, snapshot


def test_a_snapshot_keeps_values_shapes_and_shares_nothing() -> None:
    pool = torch.arange(24.0)
    tensors = {"a": pool[2:8].view(2, 3), "b": pool[8:20].view(3, 4).T, "c": torch.tensor(3), "d": torch.empty(0)}
    wanted = {name: tensor.clone() for name, tensor in tensors.items()}
    copies = snapshot(tensors)
    pool.zero_()
    tensors["c"].zero_()
    assert copies.keys() == wanted.keys()
    for name, copy in copies.items():
        torch.testing.assert_close(copy, wanted[name])
        assert copy.stride() == tensors[name].stride()


def test_the_last_of_many_is_on_the_disk_after_close(tmp_path: Path) -> None:
    path, values = tmp_path / "checkpoint", torch.zeros(1000)
    writer = CheckpointWriter(path)
    for step in range(20):
        values.fill_(step)
        writer.save(snapshot({"values": values}), {"step": step})
    values.fill_(-1)
    writer.close()
    found = load_checkpoint(path)
    assert found is not None
    assert found[1] == {"step": 19}
    assert found[0]["values"].unique().tolist() == [19.0]


def test_a_write_that_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    writer = CheckpointWriter(tmp_path / "file" / "checkpoint")
    writer.save({"values": torch.zeros(1)}, {})
    with pytest.raises(WeightStoreError, match="cannot be written"):
        writer.save({"values": torch.zeros(1)}, {})
    writer.close()
