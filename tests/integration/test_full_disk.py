"""A file that cannot be written whole: an error with path and remedy, and what was there before is untouched."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from support.exports import export, searched

from glorasearch.errors import ExportError, InputError, WeightStoreError
from glorasearch.runs.room import refuse_too_little
from glorasearch.weights import WeightStore
from glorasearch.weights.checkpoint import load_checkpoint, save_checkpoint

TENSORS = {"a": torch.arange(10_000.0)}


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process may become larger, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    supernet, subnet, images = searched("vit")
    export(supernet, subnet, images, tmp_path / "model")
    before = content(tmp_path)
    for size in (len(before["model/model.safetensors"]) - 1_000, 100):
        with files_up_to(size), pytest.raises(ExportError) as caught:
            export(supernet, subnet, images, tmp_path / "model", metrics={"accuracy": 0.5}, replace=True)
        assert f"export {tmp_path}/model cannot be written: " in str(caught.value)
        assert "make room there" in str(caught.value)
        assert content(tmp_path) == before
    export(supernet, subnet, images, tmp_path / "model", metrics={"accuracy": 0.5}, replace=True)
    assert content(tmp_path).keys() == before.keys()


def test_weights_and_checkpoints_that_do_not_fit_leave_those_before(tmp_path: Path) -> None:
    store, path = WeightStore(str(tmp_path / "weights")), tmp_path / "checkpoints" / "train.safetensors"
    digest = store.put(TENSORS, {"step": 1})
    save_checkpoint(path, TENSORS, {"step": 1})
    before = content(tmp_path)
    with files_up_to(20_000):
        with pytest.raises(WeightStoreError, match=r"weights' cannot be written: .*; what had been .* make room there"):
            store.put(TENSORS, {"step": 2})
        with pytest.raises(WeightStoreError, match=r"train\.safetensors cannot be written: .* make room there"):
            save_checkpoint(path, TENSORS, {"step": 2})
    assert content(tmp_path) == before
    assert store.digests() == [digest]
    loaded = load_checkpoint(path)
    assert loaded is not None
    assert loaded[1] == {"step": 1}


def test_what_the_disk_has_no_room_for_is_refused_before_the_work(tmp_path: Path) -> None:
    half = 1 << 59
    refuse_too_little({tmp_path / "a" / "b": (1, "weights"), tmp_path: (1, "exported model")})
    with pytest.raises(InputError) as caught:
        refuse_too_little({tmp_path / "a" / "b": (half, "weights"), tmp_path: (half, "exported model")})
    assert "this run needs about 1,152,921,504,607 MB" in str(caught.value)
    assert f"(weights in {tmp_path}, exported model in {tmp_path}): make room there" in str(caught.value)


def test_a_place_where_even_root_cannot_write_is_refused_before_the_work() -> None:
    with pytest.raises(
        WeightStoreError, match=r"weight store '/proc/weights': /proc is not a folder that can be written"
    ):
        WeightStore("/proc/weights").check()
    WeightStore("/proc/weights").check(write=False)
