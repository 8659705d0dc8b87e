"""A backbone that breaks loses neither its own rows nor those of the others."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

Benches = Callable[[str], ModuleType]


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU nothing breaks")
def test_what_breaks_in_its_process_is_told(benches: Benches, capsys: pytest.CaptureFixture[str]) -> None:
    """Real processes, which find no GPU; each of them has its turn."""
    bench, models = benches("bench_families"), ("vit_tiny", "resnet")
    rows = bench.rows(models, ("plain",), 1)
    with pytest.raises(RuntimeError, match=r"(?s)vit_tiny: .*(NVIDIA|CUDA).*; resnet: .*(NVIDIA|CUDA)"):
        next(rows)
    assert "vit_tiny broke" in capsys.readouterr().err


def test_a_process_that_dies_is_told(benches: Benches) -> None:
    backbone = benches("bench_families").Backbone("vit_tiny", ("plain",), 1)
    backbone.stop()
    with pytest.raises(RuntimeError, match="its process ended with -15"):
        list(backbone)


@pytest.mark.parametrize("breaks", [False, True])
def test_rows_come_one_by_one(benches: Benches, breaks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, row = benches("bench_families"), benches("table").Row

    class Measured:
        def __init__(self, name: str, repeats: int) -> None:
            self.name = name

        def rows(self, parts: Iterable[str]) -> Iterator[Any]:
            for part in parts:
                yield row(what=f"{self.name} {part}", measured=1.0, unit="ms")
                if breaks:
                    raise ValueError("out of memory")

    monkeypatch.setattr(bench, "Measured", Measured)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    bench._measure(theirs, "resnet", ("step", "plain"), 1)
    found = [ours.recv() for _ in range(2 if breaks else 3)]
    assert found[0].what == "resnet step"
    assert "ValueError: out of memory" in found[1] if breaks else found[1:] == [found[1], None]
    assert not ours.poll()


def test_the_table_has_what_came_before_a_break(benches: Benches, capsys: pytest.CaptureFixture[str]) -> None:
    table = benches("table")

    def rows() -> Iterator[Any]:
        yield table.Row(what="a step", measured=1.5, unit="ms")
        raise RuntimeError("resnet: out of memory")

    with pytest.raises(RuntimeError, match="resnet"):
        table.finish(rows(), argparse.Namespace(json=None))
    assert "| a step | 1.5 ms   |" in capsys.readouterr().out
