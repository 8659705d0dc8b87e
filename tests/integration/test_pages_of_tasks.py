"""Figures, report, pages, tables of runs that say numbers or several labels: the recorded values, in their words."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn import metrics as sk
from support.labelled import LABELS
from support.numbers import TARGETS

from dashboards import make_app
from glorasearch.figures import RunFacts, draw, figures_of, lacking
from glorasearch.runs.results import RaceResult, Report
from glorasearch.statistics.intervals import wilson

Bench = Any
Call = Callable[..., tuple[int, str, str]]


def facts_of(bench: Bench) -> RunFacts:
    return RunFacts.read(bench.database_url, "tiny", Path(bench.folder))


def page(bench: Bench, path: str, query: str = "") -> str:
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "HTTP_HOST": "localhost"}
    setup_testing_defaults(environ)
    answer = make_app(bench.database_url, folder=bench.folder.parent)(environ, lambda *_: None)
    return b"".join(answer).decode()


def rows(bench: Bench) -> list[dict[str, str]]:
    return list(csv.DictReader((bench.folder / "predictions.csv").open()))


def test_every_figure_of_a_task_is_there_and_draws(of_task: Bench) -> None:
    facts = facts_of(of_task)
    found = {one.key: one for one in figures_of(facts)}
    own = {"predicted", "residuals"} if facts.task == "regress" else {"labels", "calibration"}
    assert found.keys() & {"predicted", "residuals", "labels", "calibration", "confusion"} == own
    assert not any("confusion" in line or "predicted" in line for line in lacking(facts, found.values())), (
        "what no such run has"
    )
    assert {"race", "inherited", "losses"} <= found.keys()
    for figure in found.values():
        assert "NaN" not in draw(figure, "svg").decode(), figure.key
        json.dumps(figure.to_json(), allow_nan=False)
    losses = found["losses"].spec["spec"]["encoding"]["y"]["title"]
    assert losses == ("squared error" if facts.task == "regress" else "nats")


def test_figures_have_the_recorded_numbers(of_task: Bench) -> None:
    facts, lines = facts_of(of_task), rows(of_task)
    found = {one.key: one.spec for one in figures_of(facts)}
    race = facts.results.readable(RaceResult)
    assert race is not None
    scores = {one.label: one.last.accuracy if one.last.judged is None else one.last.judged for one in race.candidates}
    drawn = found["race"]["data"]["values"]
    assert {row["candidate"]: row["score"] for row in drawn} == scores
    if facts.task == "regress":
        assert all(row["score"] > 0 and "low" not in row for row in drawn)
        for part, name in zip(found["predicted"]["concat"], TARGETS, strict=True):
            points = part["layer"][1]["data"]["values"]
            assert [one["true"] for one in points] == [float(row[name]) for row in lines]
            assert [one["said"] for one in points] == [float(row[f"predicted {name}"]) for row in lines]
            assert all(one["residual"] == one["said"] - one["true"] for one in points)
            r2 = sk.r2_score([one["true"] for one in points], [one["said"] for one in points])
            assert part["title"]["subtitle"].startswith(f"R\u00b2 {r2:.3f}")
        return
    has = np.array([[name in row["label"].split("; ") for name in LABELS] for row in lines])
    sure = np.array([[float(row[f"probability of {name}"]) for name in LABELS] for row in lines])
    values = {(one["label"], one["measure"]): one["value"] for one in found["labels"]["data"]["values"]}
    for place, name in enumerate(LABELS):
        assert values[name, "recall"] == pytest.approx(sk.recall_score(has[:, place], sure[:, place] > 0.5))
        assert values[name, "average precision"] == pytest.approx(
            sk.average_precision_score(has[:, place], sure[:, place]), abs=1e-4
        )
    bins = found["calibration"]["data"]["values"]
    assert sum(one["images"] for one in bins) == has.size
    assert sum(round(one["right"] * one["images"]) for one in bins) == has.sum()
    assert all((one["low"], one["high"]) == wilson(round(one["right"] * one["images"]), one["images"]) for one in bins)


def test_the_report_and_show_have_a_row_for_each_output(of_task: Bench, call: Call, tmp_path: Path) -> None:
    report = Report.model_validate(of_task.report)
    target = tmp_path / "report.html"
    code, _, err = call(
        "report", "tiny", "--output", str(target), "--pdf", str(tmp_path / "report.pdf"), *of_task.place
    )
    assert code == 0, err
    html, shown = target.read_text(), call("show", "tiny", *of_task.place)[1]
    if report.splits.task == "regress":
        one = report.by_target[1]
        cells = (one.name, f"{one.r2:.3f}", f"{one.mae:.3g}", f"{one.rmse:.3g}")
        assert "mean absolute error, mean of the targets" in html
        files, standards = rows(of_task), {one.name: one.std for one in report.splits.standards}
        errors = [
            np.mean(
                [((float(row[f"predicted {name}"]) - float(row[name])) / std) ** 2 for name, std in standards.items()]
            )
            for row in files
        ]
        low, high = student.interval(
            0.95, len(errors) - 1, np.mean(errors), np.std(errors, ddof=1) / len(errors) ** 0.5
        )
        assert f"<td>squared error {np.mean(errors):.3f}<td>{low:.3f} to {high:.3f}" in html
    else:
        label = report.by_class[1]
        cells = (label.name, str(label.images), f"{100 * label.correct / label.images:.1f} %",
                 f"{100 * label.correct / label.predicted:.1f} %" if label.predicted else "-")  # fmt: skip
        assert "AUC, mean of the labels" in html
    assert "".join(f"<td>{cell}" for cell in cells) in html
    assert any(all(cell in line for cell in cells) for line in shown.splitlines()), shown
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_pages_speak_of_the_task(of_task: Bench) -> None:
    task, run = of_task.report["splits"]["task"], page(of_task, "/runs/tiny")
    compared = page(of_task, "/compare", "run=tiny")
    if task == "regress":
        for text in ("numbers of an image", "Mean squared error, test", "of standardised targets", "Difference",
                     "squared error</span>", "in its own unit", "root mean squared error"):  # fmt: skip
            assert text in run, text
        for text in ("ccuracy", "nats", "Points", "Confusion"):
            assert text not in run.partition("Stages")[2].partition("<footer")[0], text
        assert "squared error" in compared
        assert "squared_error" not in compared
    else:
        for text in ("several labels an image", "All labels right, test", "Each label", "average precision"):
            assert text in run, text
        assert "Confusion" not in run


def test_compare_and_runs_have_the_units(of_task: Bench, call: Call) -> None:
    regress = of_task.report["splits"]["task"] == "regress"
    out = call("compare", "tiny", *of_task.place)[1]
    assert ("test, MSE" in out, "test, %" in out) == (regress, not regress)


def test_a_run_is_trained_longer(of_task: Bench, call: Call) -> None:
    task = of_task.report["splits"]["task"]
    sets = ("name=longer", "longer.run=tiny", "train.steps=45", "race.enabled=false", "refit.steps=5",
            "report.baselines=[]")  # fmt: skip
    code, out, err = call("run", "tiny", *(text for one in sets for text in ("--set", one)), "--json", *of_task.place)
    assert (code, "15 steps more than the 30 of run 'tiny'" in err) == (0, True), err
    longer = json.loads(out)
    assert longer["splits"]["task"] == task
    assert longer["splits"].get("standards") == of_task.report["splits"].get("standards")
    code, out, _ = call("compare", "tiny", "longer", *of_task.place)
    assert (code, "against" in out) == (0, True), "the same test images"
