"""A workspace: what cannot be one is refused, and looking into one makes nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from glorasearch.errors import InputError, RunNotFoundError
from glorasearch.runs.workspace import Workspace
from glorasearch.weights import WeightStore


def test_database_and_store_are_opened_once(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)

    assert workspace.database is workspace.runs.database is workspace.database
    assert workspace.store is workspace.store
    assert workspace.store.url == str(tmp_path / "weights")


def test_a_workspace_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Not a directory; choose another with --workspace"):
        Workspace.open(tmp_path / "file" / "workspace")
    with pytest.raises(InputError, match="File exists"):
        Workspace.open(tmp_path / "file")
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(InputError, match="is not writable"):
            Workspace.open(tmp_path / "closed")


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        ("s3://AKIA:hidden@bucket/x", "s3://***@bucket/x"),
        ("s3://AKIA:hid/hidden@bucket", "s3://***@bucket"),
        ("s3://AKIA:hidden", "s3://AKIA:***"),
        ("simplecache::gs://u:hidden@bucket", "simplecache::gs://***@bucket"),
    ],
)
def test_the_url_of_a_bucket_has_no_credentials(store: str, shown: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"are not read from a bucket's URL; give them by [AG]") as said:
        Workspace.open(tmp_path, store=store)
    assert str(said.value).startswith(f"--store {shown}: ")


def test_looking_makes_nothing(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace", create=False)

    assert not workspace.has_database
    assert not workspace.path.exists()
    assert Workspace.open(tmp_path, "postgresql://host/name", create=False).has_database
    assert workspace.list_runs() == []
    with pytest.raises(RunNotFoundError, match=r"no run 'mine', 'yours' in .*; known are: none"):
        workspace.require_runs(["mine", "yours"])
    assert not workspace.path.exists()


@pytest.mark.parametrize("name", ["exp#1?lr=2", "w%41b", "a::b", "s3:x", "ü é", "x;y&z=1", "file:x", "[a]*"])
def test_any_path_is_a_workspace_of_its_own(name: str, tmp_path: Path) -> None:
    neighbours = {"exp#1", "exp#1?lr=3", "wAb", "a", "b"}
    for other in neighbours:
        Workspace.open(tmp_path / other).runs.create("run", {}, "digest")
    assert {path.name for path in tmp_path.iterdir()} == neighbours
    workspace = Workspace.open(tmp_path / name)
    assert workspace.list_runs() == []
    workspace.runs.create("run", {}, "digest")
    again = pickle.loads(pickle.dumps(workspace.database))
    again.close()
    assert (again.url.database, workspace.has_database) == (str(tmp_path / name / "glorasearch.db"), True)
    digest = workspace.store.put({"a": torch.zeros(3)}, {})
    assert WeightStore(workspace.store.url).digests() == [digest]
    assert (tmp_path / name / "weights" / digest / "manifest.json").is_file()
    workspace.runs.delete("run")
    assert all(len(Workspace.open(tmp_path / other).list_runs()) == 1 for other in neighbours)
    assert {path.name for path in tmp_path.iterdir()} == neighbours | {name}


def test_an_option_that_sqlite_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"SQLite has no option lr\. A path with a \? in it cannot stand in a URL"):
        Workspace.open(tmp_path / "w", f"sqlite:///{tmp_path}/exp?lr=2/x.db")
    assert not (tmp_path / "exp").exists()
    assert Workspace.open(tmp_path / "w", f"sqlite:///{tmp_path}/x.db?timeout=5").list_runs() == []


def test_a_path_begins_in_a_home_folder_only_where_its_text_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for given, there in (("~/w", "home/w"), ("./~", "~"), ("./~root/w", "~root/w"), ("~nobody-of-this-name", None)):
        workspace = Workspace.open(given, store=given, create=False)
        place = str(tmp_path / (there or given))
        assert (str(workspace.path), workspace.store_url) == (place, place)


def test_a_store_by_the_url_of_a_folder_is_that_folder_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for url in (f"file://{tmp_path}/store", "local://store", "file://store"):
        assert Workspace.open("w", store=url, create=False).store_url == str(tmp_path / "store")
    for name in ("a%20b", "a?b", "a#b"):
        with pytest.raises(InputError, match="give the path itself, without file://"):
            Workspace.open("w", store=f"file://{tmp_path}/{name}", create=False)


def test_compiled_code_has_a_folder_of_this_machine_wherever_the_weights_are(tmp_path: Path) -> None:
    def folder(given: str | Path | None) -> Path | None:
        return Workspace.open(tmp_path, store="memory://weights", code_cache=given, create=False).code_cache

    assert folder(None) == tmp_path / "compiled"
    assert folder("") == tmp_path / "compiled"
    assert folder("off") is None
    assert folder(tmp_path / "elsewhere") == tmp_path / "elsewhere"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--code-cache .*file: it is not a folder; give another path, or off"):
        folder(tmp_path / "file")
    with pytest.raises(InputError, match=r"--code-cache s3://\*\*\*@b/x: compiled code is kept in a folder of"):
        folder("s3://key:secret@b/x")
