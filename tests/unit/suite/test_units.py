"""Finished units: kept one by one, packed into one file, and taken over from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from suite_parts.units import Unit, UnitStore, packed, read_packed

FIRST, SECOND = Unit("a", 0, "evolution"), Unit("b", 1, "yardstick")
CONTENT: dict[str, Any] = {"test_accuracy": 0.5, "correct": "10", "stages": {"search": {"trials": 3}}}


def test_packed_units_are_taken_over_without_the_details_of_their_stages(tmp_path: Path) -> None:
    keys = {"a": "1", "b": "2"}
    store = UnitStore(tmp_path / "units", keys)
    for unit in (FIRST, SECOND):
        store.write(unit, CONTENT)
    found = dict(store.done([FIRST, SECOND]))
    file = tmp_path / "suite-units.json"
    file.write_text(packed(found))
    other = UnitStore(tmp_path / "other", keys)
    other.write(SECOND, CONTENT | {"test_accuracy": 0.75})
    assert other.take_over(read_packed(file)) == 2
    first, second = other.read(FIRST), other.read(SECOND)
    assert first == {key: value for key, value in found[FIRST].items() if key != "stages"}
    assert second is not None
    assert second["test_accuracy"] == 0.75, "what is there already stays"


def test_units_of_other_settings_or_tasks_are_not_taken_over(tmp_path: Path) -> None:
    store = UnitStore(tmp_path / "units", {"a": "1", "b": "2"})
    for unit in (FIRST, SECOND):
        store.write(unit, CONTENT)
    file = tmp_path / "suite-units.json"
    file.write_text(packed(dict(store.done([FIRST, SECOND]))))
    other = UnitStore(tmp_path / "other", {"a": "another"})
    assert other.take_over(read_packed(file)) == 0
    assert not list(tmp_path.glob("other/*"))
    changed = UnitStore(tmp_path / "units", {"a": "another"})
    with pytest.raises(ValueError, match="made with other settings"):
        changed.read(FIRST)


def test_a_unit_is_done_by_one_process_at_a_time(tmp_path: Path) -> None:
    """An open file of its own has a lock of its own, as in another process."""
    first, second = (UnitStore(tmp_path / "units", {"a": "1", "b": "2"}) for _ in range(2))
    with first.held(FIRST) as free:
        assert free
        with second.held(FIRST, seconds=0) as also:
            assert not also
        with second.held(SECOND, seconds=0) as other:
            assert other
    with second.held(FIRST, seconds=0) as later:
        assert later


@pytest.mark.parametrize("text", ["no JSON", "[3]", '[{"task": "a"}]', "3", '{"tasks": ["a"]}'])
def test_a_file_of_something_else_is_no_file_of_units(tmp_path: Path, text: str) -> None:
    file = tmp_path / "units.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"units\.json: expected finished units, as docs/suite-units\.json has them"):
        read_packed(file)


def test_a_unit_that_is_no_json_says_what_to_do(tmp_path: Path) -> None:
    store = UnitStore(tmp_path, {"a": "1"})
    store.path(FIRST).write_text("{")
    with pytest.raises(ValueError, match=r"a-0-evolution\.json is no JSON: .*; delete it"):
        store.read(FIRST)
