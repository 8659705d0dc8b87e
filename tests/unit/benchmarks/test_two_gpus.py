"""The bench of two cards against one runs on the CPU, through real Ray workers, and says what it measured."""

from __future__ import annotations

import json

import pytest


@pytest.mark.slow
def test_two_against_one(benches, tmp_path, monkeypatch) -> None:
    bench, path = benches("bench_two_gpus"), tmp_path / "two.json"
    tiny = ["--device", "cpu", "--size", "tiny", "--trials", "30", "--population", "10", "--steps", "8"]
    monkeypatch.setattr("sys.argv", ["bench_two_gpus.py", *tiny, "--seconds", "600", "--json", str(path)])
    bench.main()
    search, train = json.loads(path.read_text("utf-8"))["rows"]
    assert (search["unit"], train["unit"]) == ("trials/s", "images/s")
    assert search["same_winner"] is True
    for row in (search, train):
        assert row["measured"] > 0
        assert row["ratio"] == pytest.approx(row["measured"] / row["reference"])
        assert row["holds"] == (row["ratio"] >= {"trials/s": 1.9, "images/s": 1.8}[row["unit"]])


@pytest.mark.parametrize(("measured", "holds"), [(19.0, True), (18.9, False)])
def test_where_more_is_better_the_ratio_has_a_least_value(benches, capsys, measured: float, holds: bool) -> None:
    table = benches("table")
    row = table.Row(what="rate", measured=measured, reference=10.0, unit="trials/s", least=1.9)
    assert row.holds is holds
    table.print_table([row])
    assert ">= 1.9 x" in capsys.readouterr().out


def test_a_part_that_is_none_is_refused(benches, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["bench_two_gpus.py", "--device", "cpu", "--parts", "search,race"])
    with pytest.raises(SystemExit):
        benches("bench_two_gpus").main()
    assert "race is none of search, train" in capsys.readouterr().err
