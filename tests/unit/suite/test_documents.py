"""What writing the documents takes away is said before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from suite_parts.documents import replaced
from suite_parts.units import Unit, UnitStore, packed

FIRST, SECOND = Unit("a", 0, "evolution"), Unit("b", 1, "yardstick")
CONTENT: dict[str, Any] = {"test_accuracy": 0.5}


def test_published_units_that_would_be_lost(tmp_path: Path) -> None:
    store = UnitStore(tmp_path / "units", {"a": "1", "b": "2"})
    for unit in (FIRST, SECOND):
        store.write(unit, CONTENT)
    found = dict(store.done([FIRST, SECOND]))
    assert replaced(tmp_path, found, store.keys) is None, "nothing is published there"
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "suite-units.json").write_text(packed(found))
    assert replaced(tmp_path, found, store.keys) is None
    for done, keys in (([FIRST], store.keys), (found, {"a": "1", "b": "another"}), (found, {"a": "1"})):
        said = replaced(tmp_path, done, keys)
        assert said is not None
        assert "1 of its 2 units are not among these results" in said
    (tmp_path / "docs" / "suite-units.json").write_text("{}}")
    with pytest.raises(ValueError, match="expected finished units"):
        replaced(tmp_path, found, store.keys)
