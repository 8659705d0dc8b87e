"""`glorasearch runs note`, and where the note is shown."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from sqlalchemy import text

from glorasearch.cli.main import run as command_line
from glorasearch.db import Database, RunStore


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLORASEARCH_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    runs = RunStore(f"sqlite:///{tmp_path}/glorasearch.db")
    for name in ("flowers", "birds"):
        runs.create(name, {"seed": 1}, "digest")
    runs.database.close()
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = command_line(list(arguments))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_note_is_said_shown_and_deleted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "runs", "note", "flowers")[1].startswith("run flowers has no note; ")
    assert "note" not in call(capsys, "runs")[1]
    assert call(capsys, "runs", "note", "flowers", "lr [b]too[/b] high\nsee birds")[:2] == (
        0,
        "the note of run flowers is written\n",
    )
    assert call(capsys, "runs", "note", "flowers")[1] == "lr [b]too[/b] high\nsee birds\n"
    listed = call(capsys, "runs")[1].splitlines()
    assert listed[0].split()[-1] == "note"
    (line,) = [line for line in listed if line.startswith("flowers")]
    assert line.rstrip().endswith("lr [b]too[/b] high")
    rows = {row["run"]: row for row in json.loads(call(capsys, "runs", "--json")[1])}
    assert (rows["flowers"]["note"], rows["birds"]["note"]) == ("lr [b]too[/b] high\nsee birds", None)
    assert (
        "\n  note             lr [b]too[/b] high\n                   see birds\n" in call(capsys, "show", "flowers")[1]
    )
    assert json.loads(call(capsys, "show", "flowers", "--json")[1])["note"] == rows["flowers"]["note"]
    assert json.loads(call(capsys, "runs", "note", "flowers", "--json")[1])["version"] == 1
    assert call(capsys, "runs", "note", "flowers", "--delete")[1] == "the note of run flowers is deleted\n"
    assert json.loads(call(capsys, "runs", "note", "flowers", "--json")[1]) | {"changed": ""} == {
        "run": "flowers",
        "note": None,
        "version": 2,
        "changed": "",
    }


def test_a_note_is_read_from_standard_input(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a file\n"))
    assert call(capsys, "runs", "note", "flowers", "-")[0] == 0
    assert call(capsys, "runs", "note", "flowers")[1] == "from a file\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["flowrs", "x"], "no run 'flowrs' (did you mean 'flowers'?)"), (["flowers", " "], "the note is empty; --delete"),
     (["flowers", "x", "--delete"], "give a text, or --delete, not both"), (["flowers", "\x1b"], "at place 1")],
)  # fmt: skip
def test_refusals(place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    code, _, said = call(capsys, "runs", "note", *arguments)
    assert code == 2
    assert says in said


def test_a_damaged_note_is_said_and_hides_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("flowers", "birds"):
        call(capsys, "runs", "note", name, f"of {name}")
    database = Database(f"sqlite:///{place}/glorasearch.db")
    with database.write() as connection:
        connection.execute(text("UPDATE glorasearch_notes SET text = X'FF' WHERE run_id = 1"))
    database.close()
    for options in ([], ["--json"]):
        code, out, said = call(capsys, "runs", *options)
        assert code == 0
        assert "of birds" in out
        assert "the note of run flowers cannot be read: " in said
    rows = json.loads(call(capsys, "runs", "--json")[1])
    assert [(row["run"], row["note"]) for row in rows] == [("flowers", None), ("birds", "of birds")]
    code, out, said = call(capsys, "show", "flowers")
    assert code == 0
    assert "the note of run flowers cannot be read: " in said
    assert call(capsys, "runs", "note", "flowers")[0] == 1
    assert call(capsys, "runs", "note", "flowers", "whole")[0] == 0
    assert call(capsys, "runs", "note", "flowers")[1] == "whole\n"
