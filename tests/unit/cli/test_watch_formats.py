"""Exports in other formats among the stages of a run, as `glorasearch watch` shows them."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from glorasearch.cli.watch_view import watch_view
from glorasearch.db import RunStore
from glorasearch.plain_console import PlainConsole
from glorasearch.runs.watched import Watched


def test_formats_are_named_in_words_with_what_they_took(tmp_path: Path) -> None:
    runs = RunStore(f"sqlite:///{tmp_path}/glorasearch.db")
    runs.create("tiny", {"data": {"source": "digits"}}, "d" * 64)
    runs.set_stage("tiny", "format:onnx", {"seconds": 66.2})
    runs.set_stage("tiny", "format:adapter", {})  # of an earlier version, which recorded no time
    found = Watched.read(runs, "tiny")
    text = StringIO()
    console = PlainConsole(file=text, width=120, height=60)
    console.print(watch_view(found, console))
    lines = [" ".join(line.split()[1:]) for line in text.getvalue().splitlines() if line.strip()]
    assert "export to onnx 66 s" in lines
    assert "export to adapter" in lines
    assert not [line for line in lines if "format:" in line]
    assert [one.to_json() for one in found.stages if one.stage.startswith("format:")] == [
        {"stage": "format:onnx", "state": "finished", "title": "export to onnx", "seconds": 66.2},
        {"stage": "format:adapter", "state": "finished"},
    ]
