from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from glorasearch.data import DataConfig, InputSpec, SearchData, load_search_data, load_splits
from glorasearch.data import splits as splits_module
from glorasearch.errors import DataError


@pytest.fixture
def folder(write_folder: Any) -> Path:
    path: Path = write_folder("set", {"a": 40, "b": 60})
    return path


def load(folder: Path, spec: InputSpec, gib: float = 4.0) -> SearchData:
    return load_search_data(DataConfig(source=f"folder:{folder}", max_memory_gib=gib), spec)


def test_normalising_once_changes_no_bit(folder: Path, spec: InputSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    indices = torch.tensor([5, 3, 3, 17])
    once = load(folder, spec).train.batch(indices)[0]
    monkeypatch.setattr(splits_module, "FLOAT_CACHE_BYTES", 0)
    each = load(folder, spec).train.batch(indices)[0]
    assert torch.equal(once, each)


def test_decoding_on_demand_changes_no_bit(folder: Path, spec: InputSpec) -> None:
    kept, lazy = load(folder, spec), load(folder, spec, gib=0)
    assert (kept.train.resident, lazy.train.resident) == (True, False)
    assert kept.train.digest == lazy.train.digest
    assert torch.equal(kept.train.batch(slice(None))[0], lazy.train.batch(slice(None))[0])
    backwards = torch.arange(99, -1, -1)[20:]
    together, apart = lazy.train_and_search(), kept.train_and_search()
    assert torch.equal(together.batch(backwards)[0], apart.batch(backwards)[0])


def test_memory_goes_to_the_search_split_first(folder: Path, spec: InputSpec) -> None:
    room = 20 * spec.image_bytes / 2**30
    found = load_splits(DataConfig(source=f"folder:{folder}", max_memory_gib=room), spec)
    assert (found.search.resident, found.train.resident, found.test.resident) == (True, False, False)


def test_slices_and_indices_agree(folder: Path, spec: InputSpec) -> None:
    split = load(folder, spec).search
    assert torch.equal(split.batch(slice(2, 9, 3))[0], split.batch(torch.tensor([2, 5, 8]))[0])
    assert torch.equal(split.batch(slice(-2, None))[1], split.labels[-2:])
    assert split.batch(slice(0, 0))[0].shape == (0, 3, 8, 8)


def test_the_caller_owns_the_batch(folder: Path, spec: InputSpec) -> None:
    split = load(folder, spec).search
    before = split.batch(slice(None))[0].clone()
    images, labels = split.batch(slice(None))
    images.zero_()
    labels.fill_(7)
    assert torch.equal(split.batch(slice(None))[0], before)
    assert split.labels.max() == 1


@pytest.mark.parametrize("indices", [[20], [-1], [0, 100]])
def test_an_index_out_of_range(indices: list[int], folder: Path, spec: InputSpec) -> None:
    with pytest.raises(IndexError, match="the search split has 20 images"):
        load(folder, spec).search.batch(torch.tensor(indices))


def test_a_file_that_vanishes_is_named(folder: Path, spec: InputSpec) -> None:
    split = load(folder, spec, gib=0).train
    for file in folder.glob("*/*.png"):
        file.unlink()
    with pytest.raises(DataError, match=r"\.png: does not exist"):
        split.batch(slice(0, 4))


def test_progress_counts_up_to_the_whole(folder: Path, spec: InputSpec) -> None:
    calls: list[tuple[int, int]] = []
    load_splits(DataConfig(source=f"folder:{folder}"), spec, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (200, 200)  # each image is hashed, then decoded
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert {total for _, total in calls} == {200}


@pytest.mark.parametrize("gib", [0.0, 4.0])
def test_a_batch_drawn_in_inference_mode_can_be_trained_on(gib: float, folder: Path, spec: InputSpec) -> None:
    """Images decoded on demand come from other threads, which are in no inference mode; what is kept is reused."""
    data = load(folder, spec, gib)
    with torch.inference_mode():
        evaluated = data.train_and_search().batch(slice(None))[0]
    assert not evaluated.is_inference()
    weight = torch.ones(3 * 8 * 8, requires_grad=True)
    images, _ = data.train_and_search().batch(slice(None))
    (images.flatten(1) @ weight).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(images, evaluated)
    assert weight.grad is not None
