import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.processes import run_script

Killed = Callable[[str, Path], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def killed_writers() -> Killed:
    """Runs `support.killed_writer`; gives the directories that its killed writers left."""

    def run(kind: str, base: Path) -> list[dict[str, Any]]:
        moments: list[dict[str, Any]] = json.loads(run_script("killed_writer", kind, str(base)))
        return moments

    return run
