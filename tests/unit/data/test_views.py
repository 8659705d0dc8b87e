"""The larger view of images that are trained on: what it shows, when it is kept, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from glorasearch.data import DataConfig, InputSpec, load_search_data, load_splits
from glorasearch.data.views import LARGER, enlarged, larger_spec, views_that_fit

SPEC = InputSpec(3, 16, 16, (0.5,) * 3, (0.5,) * 3, crop_pct=0.8)
LARGE = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """40 images of 60 x 90 pixels, whose red rises from left to right and green from top to bottom."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(40):
        pixels = np.zeros((LARGE, 90, 3), np.uint8)
        pixels[..., 0] = np.linspace(0, 255, 90)
        pixels[..., 1] = np.linspace(0, 255, LARGE)[:, None]
        pixels[..., 2] = rng.integers(256)
        (root / f"class {number % 2}").mkdir(exist_ok=True)
        pixels[0, 0] = number
        Image.fromarray(pixels).save(root / f"class {number % 2}" / f"{number}.png")
    return DataConfig(source=f"folder:{root}")


def test_the_larger_view_reaches_to_the_shorter_edge_and_has_more_pixels(folder: DataConfig) -> None:
    splits = load_splits(folder, SPEC, crops=True)
    assert splits.train.has_larger
    wide, plain = (splits.train.view(torch.arange(3), "cpu", view) for view in ("larger", "plain"))
    assert (wide.shape, plain.shape) == ((3, 3, 20, 20), (3, 3, 16, 16))
    assert plain[0, 1].float().mean(1)[0] > 20  # the plain view cuts a fifth off
    assert wide[0, 1].float().mean(1)[0] < 12
    joined = splits.train_and_search()
    assert joined.has_larger
    last = torch.tensor([len(joined) - 1])
    assert joined.view(last, "cpu", "larger").shape == (1, 3, 20, 20)


def test_splits_are_the_same_with_and_without_it(folder: DataConfig) -> None:
    one, other = load_splits(folder, SPEC), load_splits(folder, SPEC, crops=True)
    for role in ("train", "search", "test"):
        first, second = getattr(one, role), getattr(other, role)
        assert first.digest == second.digest
        assert torch.equal(first.batch(slice(None))[0], second.batch(slice(None))[0])
    assert not one.train.has_larger
    assert torch.equal(
        one.train.view(torch.arange(2), "cpu", "larger"), one.train.view(torch.arange(2), "cpu", "plain")
    )


def test_what_does_not_fit_into_memory_is_decoded_to_the_same_pixels(
    folder: DataConfig, caplog: pytest.LogCaptureFixture
) -> None:
    kept, lazy = (load_search_data(folder.replace(max_memory_gib=gib), SPEC, crops=True) for gib in (4.0, 0.0))
    assert (kept.train.resident, lazy.train.resident) == (True, False)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "the larger views of the training images take" in told[0]
    assert "data.max_memory_gib = 0: they are decoded in every step" in told[0]
    chosen = torch.tensor([3, 0, 7])
    for view in ("plain", "larger"):
        assert torch.equal(kept.train.view(chosen, "cpu", view), lazy.train.view(chosen, "cpu", view))


def test_it_is_not_kept_where_it_would_show_nothing_more(folder: DataConfig) -> None:
    small = replace(SPEC, crop_pct=1.0)
    assert load_search_data(folder, small, crops=True).train.has_larger
    assert not load_search_data(folder, replace(small, height=64, width=64), crops=True).train.has_larger
    assert not load_search_data(
        DataConfig(source="digits"), replace(SPEC, channels=1, mean=(0.5,), std=(0.5,)), crops=True
    ).train.has_larger
    assert larger_spec(SPEC, {}) == enlarged(SPEC)  # the plain view cuts something off


def test_it_counts_for_the_memory_before_what_is_read_less_often() -> None:
    large = enlarged(SPEC)
    assert large.image_bytes == round(LARGER**2 * SPEC.image_bytes)
    images = {"train": 1_000, "search": 100, "test": 500}
    gib = 2**30

    def kept(size: float) -> set[str]:
        found = views_that_fit(images, {"plain": SPEC, "larger": large}, size / gib)
        return {f"{role} {view}" for role, view in found}

    plain, wide = SPEC.image_bytes, large.image_bytes
    assert kept(1e9) == {"search plain", "train larger", "search larger", "train plain", "test plain"}
    assert kept(100 * plain + 1_100 * wide) == {"search plain", "train larger", "search larger"}
    assert kept(100 * plain + 999 * wide) == {"search plain", "search larger", "train plain"}
    assert kept(10) == set()
    without = views_that_fit(images, {"plain": SPEC}, 1_100 * plain / gib)
    assert without == {("search", "plain"), ("train", "plain")}
