"""The metrics of the final report, as `run` and `show` print them."""

from __future__ import annotations

from typing import Any

import pytest
from support.stage_results import SPLITS, report

from glorasearch.cli.report_table import print_report
from glorasearch.runs.results import Confusion


def metric(value: float | None, interval: tuple[float, float] | None = None) -> dict[str, Any]:
    return {"value": value, "interval": interval, "resamples": 1000 if interval else 0}


METRICS = {
    "top1": metric(0.625, (0.5, 0.75)),
    "auc": metric(None),
    "calibration_error": metric(0.25, (0.125, 0.375)),
    "calibration_error_tempered": metric(0.0625, (0.03125, 0.125)),
}


def test_metrics_stand_beside_those_of_baselines(capsys: pytest.CaptureFixture[str]) -> None:
    lora = {"space": "lora", "lr": 1e-3, "parameters": 600, "test_accuracy": 0.25, "steps": 5, "seconds": 1.0}
    found = report(
        baselines={"lora": lora | {"metrics": {"top1": metric(0.375)}}},
        metrics=METRICS,
        temperature={"value": 1.6817928, "images": "out of fold"},
    )
    print_report(found)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert ["top-1", "62.5 %", "50.0 to 75.0", "37.5 %"] in rows
    assert ["AUC, one against the rest", "-", "-", "-"] in rows
    assert ["calibration error", "0.250", "0.125 to 0.375", "-"] in rows
    assert ["... at temperature 1.68", "0.062", "0.031 to 0.125", "-"] in rows


def test_the_most_frequent_confusions_are_named_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = Confusion.each([0, 0, 0, 1, 1, 2, 2, 2], [1, 1, 0, 0, 1, 1, 1, 1])
    splits = SPLITS | {"classes": 3, "class_names": ["pl[ai]n", "[/red]", "c"]}
    found = report(splits=splits, metrics=METRICS, confusion=[pair.to_json() for pair in pairs])
    assert found.confusion_matrix() == [[1, 2, 0], [1, 1, 0], [0, 3, 0]]
    print_report(found)
    said = "mistaken most often: c for [/red] (3), pl[ai]n for [/red] (2), [/red] for pl[ai]n (1)\n"
    assert said in capsys.readouterr().out


def test_a_report_of_an_earlier_version_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report())
    assert "on the test images" not in capsys.readouterr().out
