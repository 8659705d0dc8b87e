"""The notebooks under examples/ run from top to bottom, and what is committed was executed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["own_choice", "own_images", "quickstart"]


def shortened(code: str) -> str:
    """A cell with few steps and trials: what the committed ones led to is in the notebook."""
    for pattern, value in (
        (r"(?<=\bsteps=)\d+|(?<=\"steps\": )\d+", "12"),
        (r"(?<=\btrials=)\d+|(?<=\"trials\": )\d+", "40"),
    ):
        code = re.sub(pattern, value, code)
    return code


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two threads on a core that is shared take ten times as long
    notebook = nbformat.read(path, as_version=4)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in codes] == list(range(1, len(codes) + 1)), "execute it before you commit it"
    before = [cell.source for cell in codes]
    for cell in codes:
        cell.source = shortened(cell.source)
    assert [cell.source for cell in codes] != before, "nothing is shortened"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
