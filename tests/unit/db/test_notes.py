"""Notes of runs, on both databases: what is written is read, and of several writers at once one is heard."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from glorasearch.db import Database, NoteStore, RunNote, RunStore
from glorasearch.db.notes import MOST
from glorasearch.db.tidying import RunTidier
from glorasearch.errors import ChangedMeanwhileError, DamagedRowError, InputError, RunNotFoundError


@pytest.fixture
def notes(database_url: str) -> Iterator[NoteStore]:
    database = Database(database_url)
    for name in ("first", "second"):
        RunStore(database).create(name, {}, "")
    yield NoteStore(database)
    database.close()


def test_a_note_is_written_read_and_deleted_and_its_versions_go_on(notes: NoteStore) -> None:
    assert notes.of("first") == RunNote("", 0, None)
    assert notes.write("first", "  größer\r\nals\tsonst 🌷\n") == notes.of("first")
    assert (notes.of("first").text, notes.of("first").version) == ("größer\nals\tsonst 🌷", 1)
    assert notes.all() == {"first": notes.of("first")}
    assert notes.write("first", "").version == 2
    assert notes.all() == {"first": notes.of("first")}
    assert notes.of("first").text == ""
    with pytest.raises(ChangedMeanwhileError, match="changed by somebody else after you read it"):
        notes.write("first", "from before it was deleted", expected=1)
    assert notes.write("first", "again", expected=2).version == 3
    for call in (lambda: notes.of("none"), lambda: notes.write("none", "x"), lambda: notes.version("none")):
        with pytest.raises(RunNotFoundError, match="no run 'none'"):
            call()


def test_a_note_goes_with_its_run(notes: NoteStore, database_url: str) -> None:
    database = Database(database_url)
    changed = RunStore(database).list()[0].updated
    notes.write("first", "kept")
    assert RunStore(database).list()[0].updated == changed, "a note is no work on the run"
    RunTidier(database).rename("first", "other", {}, {})
    assert {name: note.text for name, note in notes.all().items()} == {"other": "kept"}
    RunTidier(database).delete("other")
    RunStore(database).create("other", {}, "")
    assert notes.of("other") == RunNote("", 0, None)
    database.close()


@pytest.mark.parametrize("begun", [0, 1])
def test_of_eight_writers_at_once_one_is_heard(notes: NoteStore, database_url: str, begun: int) -> None:
    for _ in range(begun):
        notes.write("first", "before")
    together, heard, told = threading.Barrier(8), [], []

    def write(number: int) -> None:
        own = NoteStore(database_url)
        together.wait()
        try:
            heard.append(own.write("first", f"writer {number}", expected=begun).text)
        except ChangedMeanwhileError:
            told.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(heard), len(told)) == (1, 7)
    assert notes.of("first").text == heard[0]
    assert notes.version("first") == begun + 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [("a\0b", r"character '\\x00' at place 2"), ("\x1b[2Jx", "at place 1"), ("a\u202eb", "at place 2"),
     ("\ud800", "at place 1"), ("x" * (MOST + 1), "has 10,001 characters; shorten it to 10,000")],
)  # fmt: skip
def test_what_is_no_text_is_refused(notes: NoteStore, wrong: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        notes.write("first", wrong)
    assert notes.of("first").version == 0
    assert len(notes.write("first", "ü" * MOST).text) == MOST


@pytest.mark.parametrize(
    ("column", "value"), [("text", "X'FF'"), ("version", "'x'"), ("changed", "'yesterday'"), ("version", "1.5")]
)
def test_a_damaged_note_spares_the_others_and_is_written_anew(column: str, value: str, tmp_path: object) -> None:
    database = Database(f"sqlite:///{tmp_path}/notes.db")
    notes, runs = NoteStore(database), RunStore(database)
    for name in ("first", "second"):
        runs.create(name, {}, "")
        notes.write(name, f"of {name}")
    with database.write() as connection:
        connection.execute(text(f"UPDATE glorasearch_notes SET {column} = {value} WHERE run_id = 2"))
    assert {name: note.text for name, note in notes.all().items()} == {"first": "of first"}
    assert [run.name for run in runs.list()] == ["first", "second"]
    assert runs.damaged() == {}
    with pytest.raises(DamagedRowError, match=rf"row run_id=2 \(run 'second'\), column {column}: "):
        notes.of("second")
    (reason,) = notes.damaged().values()
    assert "write the note of 'second' anew (`glorasearch runs note RUN TEXT`)" in reason
    assert "--fresh" not in reason
    assert notes.readable("second") == ("", notes.readable("second")[1])
    notes.write("second", "whole", expected=notes.version("second"))
    assert [note.text for note in notes.all().values()] == ["of first", "whole"]
    assert notes.damaged() == {}
    database.close()
