"""The shape of the code base: no import cycles, no long files, and a median that says what a file is."""

from __future__ import annotations

import graphlib
import statistics
import subprocess
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("glorasearch", "workers", "dashboards")
LONGEST = 300


def files() -> dict[Path, int]:
    """Every Python file that git tracks, or every module of the product where there is no git; and its lines."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
        paths = {Path(name) for name in listed.stdout.split("\0") if name}
    else:
        paths = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    return {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in paths if (ROOT / path).exists()}


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    graphlib.TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    ).prepare()  # raises CycleError, which names the cycle; imports for type checking count


def test_files_are_short() -> None:
    found = files()
    assert {path: lines for path, lines in found.items() if lines > LONGEST} == {}
    product = {path: lines for path, lines in found.items() if path.parts[0] in PACKAGES}
    written = [lines for path, lines in product.items() if path.name != "__init__.py" and "versions" not in path.parts]
    assert 90 <= statistics.median(written) <= 200
