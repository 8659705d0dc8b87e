"""Programs in processes that have no glorasearch."""

from __future__ import annotations

import subprocess
import sys

_BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "glorasearch":
            raise ImportError("glorasearch is not to be had in this process")

sys.meta_path.insert(0, Blocker())
"""
CARD_PROGRAM = """
import json, re, sys
from pathlib import Path

for export, files in json.loads(sys.argv[1]):
    (program,) = re.findall(r"```python\\n(.*?)```", (Path(export) / "README.md").read_text("utf-8"), re.DOTALL)
    for file in files:
        exec(program.replace("PATH", export, 1).replace("IMAGE", file, 1), {})
"""
"""Runs the programs on the cards of exports: its argument is JSON, `[[export, [file, ...]], ...]`."""


def without_glorasearch(program: str, *arguments: str) -> str:
    """What a program prints that runs in a process of its own."""
    command = [sys.executable, "-I", "-c", _BLOCKER + program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
