"""The bench of finalists side by side runs without a GPU and says what it measured."""

from __future__ import annotations

import json

import pytest


def test_two_finalists_against_one(benches, tmp_path, monkeypatch) -> None:
    bench, path = benches("bench_finalists"), tmp_path / "finalists.json"
    program = ["bench_finalists.py", "--device", "cpu", "--stacks", "quickstart:2:3", "--steps", "1"]
    monkeypatch.setattr("sys.argv", [*program, "--json", str(path)])
    bench.main()
    row, turns, refit = json.loads(path.read_text("utf-8"))["rows"]
    assert refit["models"] == 1
    assert refit["flops"] == refit["reference_flops"]
    assert row["models"] == turns["models"] == 2
    assert turns["reference"] == row["measured"]
    assert turns["flops"] == turns["reference_flops"] == row["flops"]
    assert row["target"] == 3
    assert row["ratio"] == pytest.approx(row["measured"] / row["reference"])
    assert 1.5 < row["flops"] / row["reference_flops"] < 2.5


@pytest.mark.parametrize("text", ["quickstart", "quickstart:two:3", "quickstart:1:3"])
def test_a_stack_that_is_none_is_refused(benches, monkeypatch, capsys, text: str) -> None:
    monkeypatch.setattr("sys.argv", ["bench_finalists.py", "--device", "cpu", "--stacks", text])
    with pytest.raises(SystemExit):
        benches("bench_finalists").main()
    assert text in capsys.readouterr().err
