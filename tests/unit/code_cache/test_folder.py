"""A folder of compiled code: what is not as it was sealed is removed, other versions and processes are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from glorasearch.code_cache import CodeFolder, cached_code, remove_code

FACTS = {"torch": "2", "device": "H200 9.0"}
WRITER = """
import sys
from pathlib import Path
from glorasearch.code_cache import CodeFolder
folder = CodeFolder(Path(sys.argv[1]), {"torch": "2", "device": "H200 9.0"})
for number in range(40):
    place = folder.path / "triton" / f"{sys.argv[2]}{number}"
    place.mkdir()
    for name in ("kernel.json", "kernel.cubin"):
        (place / f"tmp.{name}").write_text(f"{sys.argv[2]} {number}" * 1000)
        (place / f"tmp.{name}").replace(place / name)
    folder.seal()
print("written", flush=True)
if sys.argv[3] == "waits":
    (folder.path / "triton" / "unsealed").write_text("of a killed process")
    sys.stdin.read()
"""


@contextmanager
def opened(root: Path, facts: dict[str, str] = FACTS) -> Iterator[CodeFolder]:
    folder = CodeFolder(root, facts)
    try:
        yield folder
    finally:
        folder.close()


def put(folder: CodeFolder, name: str, content: bytes) -> Path:
    path = folder.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With two files of each compiler, sealed."""
    with opened(tmp_path / "compiled") as folder:
        put(folder, "inductor/fxgraph/ab/key/graph", b"graph" * 100)
        put(folder, "inductor/cd/code.py", b"pass")
        put(folder, "inductor/locks/key.lock", b"")
        put(folder, "triton/KEY/kernel.cubin", bytes(5000))
        put(folder, "triton/KEY/kernel.json", b"{}")
        folder.seal()
    return tmp_path / "compiled"


def files(folder: CodeFolder) -> set[str]:
    return {name for _, name in folder._files()}


ALL = {"inductor/fxgraph/ab/key/graph", "inductor/cd/code.py", "inductor/locks/key.lock"}
ALL |= {"triton/KEY/kernel.cubin", "triton/KEY/kernel.json"}


def test_what_was_sealed_is_kept(root: Path) -> None:
    for _ in range(3):
        with opened(root) as folder:
            assert folder.dropped == ()
            assert files(folder) == ALL
            assert folder.bytes > 5000


@pytest.mark.parametrize(
    ("damaged", "gone"),
    [
        ("inductor/cd/code.py", {"inductor/cd/code.py"}),
        ("inductor/fxgraph/ab/key/graph", {"inductor/fxgraph/ab/key/graph"}),
        ("triton/KEY/kernel.cubin", {"triton/KEY/kernel.cubin", "triton/KEY/kernel.json"}),
    ],
)
@pytest.mark.parametrize("how", ["flipped", "cut", "longer", "link"])
def test_a_damaged_file_is_removed(root: Path, tmp_path: Path, damaged: str, gone: set[str], how: str) -> None:
    with opened(root) as folder:
        path = folder.path / damaged
    content = path.read_bytes()
    path.unlink()
    if how == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    else:
        changed = {"flipped": bytes([content[0] ^ 1]) + content[1:], "cut": content[:-1], "longer": content + b" "}
        path.write_bytes(changed[how])

    with opened(root) as folder:
        assert folder.dropped == (damaged,)
        assert files(folder) == ALL - gone
    assert not (tmp_path / "elsewhere").exists() or (tmp_path / "elsewhere").read_bytes() == content
    with opened(root) as folder:
        assert folder.dropped == ()


def test_a_file_that_is_lost_takes_the_rest_of_its_entry(root: Path) -> None:
    with opened(root) as folder:
        (folder.path / "triton/KEY/kernel.cubin").unlink()
    with opened(root) as folder:
        assert "triton/KEY/kernel.json" not in files(folder)
        assert "inductor/cd/code.py" in files(folder)


def test_a_foreign_file_is_removed(root: Path) -> None:
    with opened(root) as folder:
        put(folder, "inductor/cd/foreign.py", b"raise SystemExit")
        put(folder, "inductor/locks/other.lock", b"not empty")
        put(folder, "inductor/cd/.12.34.tmp", b"half")
    with opened(root) as folder:
        assert folder.dropped == ("inductor/cd/foreign.py", "inductor/locks/other.lock")
        assert files(folder) == ALL


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"torch": "3", "device": "H200 9.0"}', "\x00"])
def test_a_part_of_something_else_is_removed_whole(root: Path, content: str) -> None:
    with opened(root) as folder:
        (folder.path / "facts.json").write_text(content)
    with opened(root) as folder:
        assert folder.dropped == ("facts.json",)
        assert files(folder) == set()
    with opened(root) as folder:
        assert folder.dropped == ()


@pytest.mark.parametrize("content", ["", "[]", "null", '{"inductor/cd/code.py": 3}'])
def test_damaged_sums_vouch_for_nothing(root: Path, content: str) -> None:
    with opened(root) as folder:
        for file in (folder.path / "sums").iterdir():
            file.write_text(content)
    with opened(root) as folder:
        assert set(folder.dropped) == ALL - {"inductor/locks/key.lock"}


def test_other_versions_are_apart(root: Path) -> None:
    for changed in ({"torch": "3"}, {"device": "A100 8.0"}, {"plugin p": "1"}):
        with opened(root, FACTS | changed) as folder:
            assert files(folder) == set()
            put(folder, "inductor/x", b"other")
            folder.seal()
    with opened(root) as folder:
        assert files(folder) == ALL
    assert {one.facts["torch"] for one in cached_code(root)} == {"2", "3"}
    assert len(cached_code(root)) == 4


def test_what_others_could_write_is_refused(root: Path) -> None:
    root.chmod(0o777)
    with pytest.raises(PermissionError, match="can be written by other users"):
        CodeFolder(root, FACTS)


def write(root: Path, name: str, how: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", WRITER, str(root), name, how], stdin=pipe, stdout=pipe)


def test_processes_write_at_the_same_time(root: Path) -> None:
    writers = [write(root, name, "ends") for name in "abcd"]
    assert [writer.communicate()[0] for writer in writers] == [b"written\n"] * 4
    with opened(root) as folder:
        assert folder.dropped == ()
        assert len(files(folder)) == len(ALL) + 4 * 40 * 2


def test_a_process_is_left_alone_and_a_killed_one_vouches_for_what_it_sealed(root: Path) -> None:
    writer = write(root, "a", "waits")
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    with opened(root) as folder:
        put(folder, "inductor/mine", b"unsealed, in use by two")
    with opened(root) as folder:  # the other one may be writing: nothing is checked
        assert folder.dropped == ()
        assert "inductor/mine" in files(folder)
        (listed,) = cached_code(root)
        assert not remove_code(listed)
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    with opened(root) as folder:
        assert set(folder.dropped) <= {"inductor/mine", "triton/unsealed"}
        assert "inductor/mine" in folder.dropped
        assert len(files(folder)) == len(ALL) + 40 * 2


def test_looking_makes_nothing_and_removing_leaves_nothing(root: Path, tmp_path: Path) -> None:
    assert cached_code(tmp_path / "nowhere") == []
    assert not (tmp_path / "nowhere").exists()
    (listed,) = cached_code(root)
    assert listed.text == "torch 2, device H200 9.0"
    assert listed.bytes > 5000
    assert remove_code(listed)
    assert cached_code(root) == []
    assert [path.name for path in root.iterdir()] == ["lock"]
