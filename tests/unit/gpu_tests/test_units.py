"""Which tests one process runs."""

from __future__ import annotations

from gpu_tests.units import Unit, units_of


def found(file: str, count: int, cards: int = 1) -> list[dict[str, object]]:
    return [{"event": "found", "test": f"{file}::{n}", "file": file, "cards": cards} for n in range(count)]


def test_a_file_that_takes_long_is_several_units() -> None:
    seconds = {"a::0": 60.0, "a::1": 40.0, "a::2": 1.0, "a::3": 250.0, "a::4": 20.0, "b::0": 30.0, "b::1": 30.0}
    assert units_of(found("a", 5) + found("b", 2, cards=2), seconds) == [
        Unit("a", 1, ("a::2",)),
        Unit("a", 1, ("a::4",)),
        Unit("a", 1, ("a::0", "a::1")),
        Unit("a", 1, ("a::3",)),
        Unit("b", 2, ("b::0", "b::1")),
    ]


def test_those_of_two_cards_and_the_longest_come_first_where_all_fit_into_the_time() -> None:
    seconds = {"a::0": 60.0, "a::1": 90.0, "b::0": 20.0, "c::0": 100.0}
    tests = found("a", 2) + found("b", 1) + found("c", 1, cards=2)
    names = [unit.tests[0] for unit in units_of(tests, seconds, room=465)]
    assert names == ["c::0", "a::1", "a::0", "b::0"], "370 seconds of places, of 465"
    assert [unit.tests[0] for unit in units_of(tests, seconds, room=460)] == ["b::0", "a::0", "a::1", "c::0"]


def test_what_no_earlier_run_tells_of_counts_as_ten_seconds_and_as_sixty_with_two_cards() -> None:
    assert [len(unit.tests) for unit in units_of(found("a", 25), {})] == [5, 10, 10]
    assert [len(unit.tests) for unit in units_of(found("a", 2, cards=2), {})] == [1, 1]
