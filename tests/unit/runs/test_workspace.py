"""A workspace: what cannot be one is refused, and looking into one makes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glorasearch.errors import InputError, RunNotFoundError
from glorasearch.runs.workspace import Workspace


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


def test_looking_makes_nothing(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace", create=False)

    assert not workspace.has_database
    assert not workspace.path.exists()
    assert Workspace.open(tmp_path, "postgresql://host/name", create=False).has_database
    assert workspace.list_runs() == []
    with pytest.raises(RunNotFoundError, match=r"no run 'mine', 'yours' in .*; known are: none"):
        workspace.require_runs(["mine", "yours"])
    assert not workspace.path.exists()
