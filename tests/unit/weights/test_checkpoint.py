import logging
import os
import shutil
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from glorasearch.errors import WeightsCorruptError, WeightStoreError
from glorasearch.weights import load_checkpoint, save_checkpoint
from glorasearch.weights.checkpoint import previous_checkpoint

META = {"step": 7, "schedule": {"rate": 1e-4, "best": None}, "position": [3, 1], "1": True}


def state(fill: float = 1.0) -> dict[str, torch.Tensor]:
    shared = torch.full((3, 4), fill)
    return {
        "adapter.a": shared,
        "adapter.view": shared[1],
        "adamw.0.step": torch.tensor(float(fill)),
        "generator": torch.Generator().manual_seed(int(fill)).get_state(),
        "order": torch.randperm(6),
        "double": torch.full((2,), fill, dtype=torch.float64),
        "mask": torch.tensor([True, False]),
        "none": torch.zeros(0),
    }


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "last.safetensors"
    tensors = state()
    assert load_checkpoint(path) is None
    save_checkpoint(path, tensors, META)
    loaded = load_checkpoint(path)
    assert loaded is not None
    assert loaded[1] == META
    assert loaded[0].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[0][name].dtype == tensor.dtype
        assert torch.equal(loaded[0][name], tensor)
        loaded[0][name].zero_()
    torch.Generator().set_state(tensors["generator"])


def test_no_tensors_and_no_meta(tmp_path):
    save_checkpoint(tmp_path / "c", {}, {})
    assert load_checkpoint(tmp_path / "c") == ({}, {})


def test_the_previous_one_is_kept(tmp_path):
    path = tmp_path / "last.safetensors"
    for step in (1, 2, 3):
        save_checkpoint(path, state(step), {"step": step})
    assert sorted(os.listdir(tmp_path)) == [path.name, f"{path.name}.previous"]
    loaded = load_checkpoint(previous_checkpoint(path))
    assert loaded is not None
    assert loaded[1] == {"step": 2}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_newest_falls_back_to_the_previous(data, tmp_path):
    path = tmp_path / "last.safetensors"
    for step in (1, 2):
        save_checkpoint(path, state(step), {"step": step})
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    header = 8 + int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        content = content[:position]
    elif content[position] == ord(" ") and position < header:
        return  # padding of the header: no content
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    loaded = load_checkpoint(path)
    assert loaded is not None
    assert loaded[1] == {"step": 1}
    assert torch.equal(loaded[0]["adapter.a"], torch.full((3, 4), 1.0))


def test_the_fall_back_is_logged_and_goes_on(tmp_path, caplog):
    path = tmp_path / "last.safetensors"
    for step in (1, 2):
        save_checkpoint(path, state(step), {"step": step})
    os.truncate(path, path.stat().st_size - 1)
    with caplog.at_level(logging.WARNING):
        load_checkpoint(path)
    assert "using the previous checkpoint" in caplog.text
    assert "truncated" in caplog.text
    save_checkpoint(path, state(5), {"step": 5})
    loaded = load_checkpoint(path)
    assert loaded is not None
    assert loaded[1] == {"step": 5}


def test_all_damaged(tmp_path):
    path = tmp_path / "last.safetensors"
    for step in (1, 2):
        save_checkpoint(path, state(step), {"step": step})
    shutil.copy(__file__, path)
    os.truncate(previous_checkpoint(path), 100)
    with pytest.raises(WeightsCorruptError, match=r"last\.safetensors: .*\.previous: .*delete these files to start"):
        load_checkpoint(path)


def test_wrong_input(tmp_path):
    for meta in ({"loss": float("nan")}, {"x": object()}):
        with pytest.raises(ValueError, match="JSON"):
            save_checkpoint(tmp_path / "c", {}, meta)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WeightStoreError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "c", {}, {})
    assert os.listdir(tmp_path) == ["file"]


def test_killed_writers_leave_the_old_or_the_new_one(tmp_path, killed_writers):
    moments = killed_writers("checkpoint", tmp_path)
    assert sum(moment["killed"] for moment in moments) >= 5
    steps = set()
    for moment in moments:
        path = Path(moment["directory"]) / "last.safetensors"
        loaded = load_checkpoint(path)
        assert loaded is not None
        tensors, meta = loaded
        steps.add(meta["step"])
        assert meta["step"] in (2, 3)
        assert bool((tensors["w"] == float(meta["step"])).all())
        previous = load_checkpoint(previous_checkpoint(path))
        assert previous is not None
        assert previous[1]["step"] in (1, 2)
        save_checkpoint(path, {"w": torch.zeros(1)}, {"step": 4})
        assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.previous"]
    assert steps == {2, 3}
