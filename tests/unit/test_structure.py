"""The shape of the house: no import circles, no long files, and a median that says what a file is."""

from __future__ import annotations

import graphlib
import statistics
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("glorasearch", "workers", "dashboards")
LONGEST = 300


def files() -> dict[Path, int]:
    """Every module of the product, and its lines."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {path.relative_to(ROOT): len(path.read_text("utf-8").splitlines()) for path in paths}


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    graphlib.TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    ).prepare()  # raises CycleError, which names the circle; imports for type checking count


def test_files_are_short() -> None:
    found = files()
    assert {path: lines for path, lines in found.items() if lines > LONGEST} == {}
    written = [lines for path, lines in found.items() if path.name != "__init__.py" and "versions" not in path.parts]
    assert 90 <= statistics.median(written) <= 200
