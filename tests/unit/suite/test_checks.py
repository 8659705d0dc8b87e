"""What the suite refuses before a unit starts, with a real backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from suite_parts.checks import check_units, claim
from suite_parts.settings import Settings, backbone_digest
from suite_parts.tasks import Sizes, Tasks
from support.tiny_backbone import write_tiny_backbone

from glorasearch import InputError

SIZES = Sizes(train=20, search=10)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backbone, and a file of one task."""
    folder = tmp_path_factory.mktemp("checks")
    write_tiny_backbone(folder / "backbone")
    np.savez(folder / "mine.npz", a_x=np.zeros((40, 8, 8, 3), np.uint8), a_y=np.arange(40) % 2)
    return folder


def settings(place: Path, **more: Any) -> Settings:
    name = f"local-dir:{place / 'backbone'}"
    digests = {"a": Tasks(place / "mine.npz", place).digest("a")}
    needed = {"backbone": name, "device": "cpu", "budget": "lora16", "sizes": SIZES, "task_digests": digests}
    return Settings(**needed | {"backbone_digest": backbone_digest(name)} | more)  # type: ignore[arg-type]


def check(place: Path, *arms: str, **more: Any) -> None:
    check_units(settings(place, **more), Tasks(place / "mine.npz", place), arms, place / "out")


def test_what_no_unit_could_end_with_is_refused(place: Path) -> None:
    check(place, "evolution", "yardstick", "lora4_budget")
    with pytest.raises(ValueError, match=r"--budget 10 is 10 parameters; .* 'lora', 3,072: give a larger budget"):
        check(place, "yardstick", budget="10")
    with pytest.raises(ValueError, match=r"--budget lora2 is 1,536 parameters, fewer than the 3,072 of .* lora4"):
        check(place, "lora4_budget", budget="lora2")
    check(place, "evolution", budget="10")
    with pytest.raises(InputError, match="has a rank above 24"):
        check(place, "evolution", budget="lora99")
    with pytest.raises(ValueError, match="'a' has 40 images; the suite needs at least 1001: 800 to train on, 200 to"):
        check(place, "evolution", sizes=Sizes())
    with pytest.raises(InputError, match="no such model"):
        check(place, "evolution", backbone="no_such_backbone", backbone_digest="")
    assert not (place / "out").exists()


def test_a_folder_belongs_to_the_settings_of_its_first_call(place: Path, tmp_path: Path) -> None:
    """Data, runs and stacks that others left there would be gone on with, though no unit of theirs is done."""
    out = tmp_path / "out"
    claim(out, settings(place))
    claim(out, settings(place))
    with pytest.raises(ValueError, match=r"has 'a' that was made with other settings, .*give another --out"):
        claim(out, settings(place, sizes=Sizes(train=10, search=10)))
    claim(out, settings(place, task_digests={"b": "1"}))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file: it cannot be written: Not a directory"):
        claim(tmp_path / "file", settings(place))
