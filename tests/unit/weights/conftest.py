import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Killed = Callable[[str, Path], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def killed_writers() -> Killed:
    """Runs killed_writer.py; gives the directories that its killed writers left."""

    def run(kind: str, base: Path) -> list[dict[str, Any]]:
        script = Path(__file__).with_name("killed_writer.py")
        done = subprocess.run(
            [sys.executable, str(script), kind, str(base)],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        moments: list[dict[str, Any]] = json.loads(done.stdout)
        return moments

    return run
