import os
import subprocess
import sys
from pathlib import Path

import pytest

from glorasearch.weights.atomic import (
    publish_directory,
    remove_leftovers,
    replace_file,
    temporary_beside,
    temporary_directory,
)


def dead_process() -> int:
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True).stdout)


def test_only_what_the_dead_left_is_removed(tmp_path):
    mine = temporary_beside(tmp_path / "a")
    dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{dead_process()}-"))
    elsewhere = mine.with_name(mine.name.replace(f"-{os.getpid()}-", "-1-").replace("_", "x"))
    old = elsewhere.with_name(elsewhere.name + "-old")
    others = [tmp_path / ".tmp-user", tmp_path / "a"]
    for path in (mine, dead, elsewhere, old, *others):
        path.mkdir()
    for path in (old, *others):
        os.utime(path, (0, 0))
    assert remove_leftovers(tmp_path) == sorted([dead, old])
    assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere, *others])


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(FileExistsError), temporary_directory(tmp_path / "x") as temporary:
        temporary.mkdir()
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        replace_file(tmp_path / "taken", b"content")
    assert os.listdir(tmp_path) == ["taken"]


def test_publishing_never_replaces(tmp_path):
    target = tmp_path / "x"
    for content, published in (("one", True), ("two", False)):
        with temporary_directory(target) as temporary:
            (temporary / "file").write_text(content)
            assert publish_directory(temporary, target) is published
    assert (target / "file").read_text() == "one"
    assert [Path(name).name for name in os.listdir(tmp_path)] == ["x"]
