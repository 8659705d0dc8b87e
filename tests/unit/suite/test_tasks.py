"""The tasks of the suite and their splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from suite_parts import scenes
from suite_parts.tasks import Sizes, Tasks, chosen

from glorasearch import DataConfig
from glorasearch.data import InputSpec, load_splits


@pytest.mark.parametrize(("make", "classes"), [(scenes.count, 8), (scenes.orientation, 12), (scenes.font, 10)])
def test_scenes_are_drawn_by_their_seed(make, classes):
    images, labels = make(200)
    assert images.shape == (200, 32, 32, 3)
    assert images.dtype == np.uint8
    assert set(labels.tolist()) == set(range(classes))
    again = make(20)
    assert (again[0] == images[:20]).all()
    assert (make(20, seed=99)[0] != images[:20]).any()


def test_things_are_as_many_as_the_label_says() -> None:
    """On a plain ground, a thing is a connected patch of other pixels; reduced to 32 pixels, neighbours may merge."""
    images, labels = scenes.count(60)
    found = []
    for image in images:
        ground = image[0, 0].astype(int)
        found.append(patches(np.abs(image.astype(int) - ground).sum(-1) > 60))
    assert np.corrcoef(found, labels)[0, 1] > 0.9
    assert abs(np.mean(labels + 1 - np.array(found))) < 0.7


def patches(seen: np.ndarray) -> int:
    left, count = {tuple(place) for place in np.argwhere(seen).tolist()}, 0
    while left:
        count += 1
        todo = [left.pop()]
        while todo:
            y, x = todo.pop()
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            todo += near
    return count


GREY = np.zeros((4, 8, 8), np.uint8)


def test_classes_are_the_different_labels(tmp_path: Path) -> None:
    """Numbered in their order, wherever they begin, so that no class without an image is counted."""
    labels = {"from1": [1, 2, 2, 1], "gaps": [10, 30, 30, 10], "below": [-1, 0, 0, -1], "real": [0.0, 1.0, 1.0, 0.0]}
    arrays = {f"{name}_y": np.array(own) for name, own in labels.items()} | {f"{name}_x": GREY for name in labels}
    np.savez(tmp_path / "mine.npz", **arrays)  # type: ignore[arg-type]
    tasks = Tasks(tmp_path / "mine.npz", tmp_path)
    for name in labels:
        assert tasks.read(name)[1].tolist() == [0, 1, 1, 0]
    assert chosen(tasks, ["gaps", "below"]) == ["gaps", "below"]
    with pytest.raises(ValueError, match=r"--only: no task 'gabs' \(did you mean 'gaps'\?\); there are"):
        chosen(tasks, ["gabs"])


def test_a_split_is_a_permutation_by_the_seed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (50, 8, 8, 3), dtype=np.uint8), np.arange(50) % 5
    np.savez(tmp_path / "mine.npz", a_x=images, a_y=labels, b_x=images[:20], b_y=labels[:20])
    tasks = Tasks(tmp_path / "mine.npz", tmp_path)
    assert chosen(tasks, None) == ["a", "b"]
    source = tasks.write("a", 3, Sizes(train=20, search=10), tmp_path / "data")
    spec = InputSpec(channels=3, height=8, width=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    splits = load_splits(DataConfig(source=source), spec)
    order = np.random.RandomState(1003).permutation(50)
    for split, own in ((splits.train, order[:20]), (splits.search, order[20:30]), (splits.test, order[30:])):
        assert split.labels.tolist() == labels[own].tolist()
        shown = (split.batch(slice(None))[0] * 255).round().byte().permute(0, 2, 3, 1)
        assert (shown.numpy() == images[own]).all()
    with pytest.raises(ValueError, match="'b' has 20 images; the suite needs at least 31"):
        tasks.write("b", 3, Sizes(train=20, search=10), tmp_path / "data")
    assert tasks.digest("a") != tasks.digest("b")


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", a_x=np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="missing: a_y"):
        Tasks(tmp_path / "mine.npz", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "cannot be read as a NumPy archive: it is another kind of file, or holds Python objects"),
        ({"a_x": np.array([{}], dtype=object), "a_y": np.zeros(1)}, "cannot be read as .* holds Python objects"),
        (np.zeros(3), "it is a single array"),
        (
            {"a_x": np.zeros((4, 8, 8, 3)), "a_y": np.zeros(4)},
            r"a_x is float64 \(4, 8, 8, 3\) .*; expected uint8",
        ),
        ({"a_x": np.zeros((4, 8, 8, 3), np.uint8), "a_y": np.zeros(3)}, r"and a_y float64 \(3,\)"),
        ({"a_x": np.zeros((4, 3, 8, 8), np.uint8), "a_y": np.arange(4)}, r"a_x is uint8 \(4, 3, 8, 8\) .*; expected"),
        ({"a_x": GREY, "a_y": np.array([0, 1, 0.5, 0])}, "a_y is float64, not all of them whole numbers; expected the"),
        ({"a_x": GREY, "a_y": np.array([0, 1, np.nan, 0])}, "not all of them whole numbers"),
        ({"a_x": GREY, "a_y": np.array(["a", "b", "a", "b"])}, "a_y is <U1, not all of them whole numbers"),
        ({"a_x": GREY, "a_y": np.arange(4)}, "a_y has 4 classes in 4 images; .*most of them with several images"),
        ({"a_x": GREY, "a_y": np.zeros(4)}, "a_y has 1 classes in 4 images; expected .* two classes or more"),
        ({"a/b_x": GREY, "a/b_y": np.arange(4) % 2}, "'a/b' is no name of a task; expected a letter or digit"),
        ({"_x": GREY, "_y": np.arange(4) % 2}, "'' is no name of a task"),
    ],
)
def test_a_file_that_is_none_says_what_it_is(tmp_path: Path, content, message) -> None:
    path = tmp_path / "mine.npz"
    with path.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        elif isinstance(content, dict):
            np.savez(file, **content)
        else:
            np.save(file, content)
    with pytest.raises(ValueError, match=message) as found:
        Tasks(path, tmp_path).read("a")
    assert "pickle" not in str(found.value)
