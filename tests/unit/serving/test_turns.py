"""Turns: one thread at a time, the key at hand first, and nobody for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from glorasearch.serving.turns import Turns


@contextmanager
def queued(turns: Turns, keys: str, order: list[str]) -> Iterator[None]:
    """Threads that wait for a turn each, in this order, until the `with` ends."""

    def take(name: str) -> None:
        with turns.turn(name[0]):
            order.append(name)

    threads = []
    with turns.turn("a"):
        for number, key in enumerate(keys):
            threads.append(threading.Thread(target=take, args=(f"{key}{number}",)))
            threads[-1].start()
            while turns.waiting <= number:
                threading.Event().wait(0.001)
        yield
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_the_key_at_hand_comes_first_and_then_the_oldest() -> None:
    order: list[str] = []
    with queued(Turns(), "babca", order):
        assert order == []
    assert order == ["a1", "a4", "b0", "b2", "c3"]


def test_nobody_waits_for_ever() -> None:
    order: list[str] = []
    with queued(Turns(in_a_row=3), "baaaa", order):
        pass
    assert order == ["a1", "a2", "b0", "a3", "a4"]


def test_an_error_ends_a_turn() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="inside"), turns.turn("a"):
        raise ValueError("inside")
    with turns.turn("b"):
        assert turns.waiting == 0
