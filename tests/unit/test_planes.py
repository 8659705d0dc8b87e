"""The two planes: what each imports, seen in fresh processes."""

from __future__ import annotations

import json
import math
import os
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

CONTROL = ("choices", "db", "race", "search", "space")
DATA = (
    "adapters",
    "code_cache",
    "tasks",
    "supernet",
    "recompute",
    "backbone",
    "data",
    "training",
    "evaluation",
    "weights",
    "export",
    "fused",
    "stacked",
    "serving",
)
ONLY_DATA = ("torch", "torchvision", "timm", "ray", "tensorboardX")
ONLY_CONTROL = ("sqlalchemy", "alembic", "optuna", "ray", "tensorboardX")
APART = (
    "__main__",
    "api",
    "assets",
    "bounded",
    "cli",
    "config",
    "dotted",
    "errors",
    "figures",
    "identity",
    "interrupts",
    "lazy",
    "plain_console",
    "quantities",
    "redact",
    "runs",
    "statistics",
    "strict_toml",
    "terminal",
    "version",
)
"""Where the planes meet, and what both rest on."""

IMPORT = """
import importlib, json, sys
for name in {modules!r}:
    importlib.import_module(name)
print(json.dumps([name for name in {forbidden!r} if name in sys.modules]))
"""

COMMAND = """
import json, sys
from glorasearch.cli.main import run
code = run({arguments!r})
heavy = [name for name in {forbidden!r} if name in sys.modules]
print(json.dumps({{"code": code, "heavy": heavy}}), file=sys.stderr)
"""


def modules(rooms: tuple[str, ...]) -> list[str]:
    """Every module of the rooms, found without importing them."""
    found = []
    for room in rooms:
        name = f"glorasearch.{room}"
        spec = find_spec(name)
        assert spec is not None, f"no room {name}"
        found.append(name)
        if spec.submodule_search_locations:
            found += _below(list(spec.submodule_search_locations), name)
    return found


def _below(paths: list[str], prefix: str) -> list[str]:
    found = []
    for info in pkgutil.iter_modules(paths):
        if info.name == "env":  # Alembic runs migrations/env.py itself; it is not imported
            continue
        found.append(f"{prefix}.{info.name}")
        if info.ispkg:
            found += _below([str(Path(path) / info.name) for path in paths], found[-1])
    return found


def python(code: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done


def loaded(rooms: tuple[str, ...], forbidden: tuple[str, ...]) -> list[str]:
    names = modules(rooms)
    assert len(names) > len(rooms)
    found: list[str] = json.loads(python(IMPORT.format(modules=names, forbidden=forbidden)).stdout)
    return found


def command(*arguments: str, forbidden: tuple[str, ...] = ONLY_DATA) -> tuple[str, dict[str, Any]]:
    """Standard output of a command, and what it was like."""
    done = python(COMMAND.format(arguments=list(arguments), forbidden=forbidden))
    return done.stdout, json.loads(done.stderr.splitlines()[-1])


def test_the_rooms_are_all_of_the_planes() -> None:
    """A new room has to choose its plane here, in pyproject.toml, or be one of those where the planes meet."""
    import glorasearch

    rooms = {info.name for info in pkgutil.iter_modules(glorasearch.__path__)}
    assert rooms - set(CONTROL) - set(DATA) == set(APART)


def test_the_control_plane_imports_neither_torch_nor_ray() -> None:
    assert loaded(CONTROL, ONLY_DATA) == []


def test_the_data_plane_imports_no_database_no_optuna_and_no_ray() -> None:
    assert loaded(DATA, ONLY_CONTROL) == []


@pytest.mark.parametrize("arguments", [["--help"], ["space", "--help"], ["--version"], []])
def test_help_needs_neither_plane(arguments: list[str]) -> None:
    _, facts = command(*arguments, forbidden=(*ONLY_DATA, *ONLY_CONTROL))
    assert facts["heavy"] == []


def test_a_known_backbone_is_shown_without_torch() -> None:
    output, facts = command("space", "glora_medium", "--json")
    shown = json.loads(output)
    assert facts["code"] == 0
    assert facts["heavy"] == []
    assert shown["backbone"] == "vit_base_patch16_224"
    assert len(shown["layers"]) == 48
    assert shown["genes"] == 240
    assert shown["subnets_log10"] == pytest.approx(48 * math.log10(900))
    assert (shown["parameters"]["smallest"], shown["parameters"]["largest"]) == (0, 1_603_776)
    assert shown["parameters"]["mean"] == pytest.approx(555_387.2)


def test_a_mistake_is_told_without_torch_and_exits_with_2() -> None:
    _, facts = command("space", "gloria")
    assert facts["code"] == 2
    assert facts["heavy"] == []
