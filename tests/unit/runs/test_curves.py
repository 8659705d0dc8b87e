"""Curves in files: each point once, whatever is measured again, and a disk that fails ends nothing."""

from __future__ import annotations

import csv
import logging
import math
from pathlib import Path

import pytest
from support.curves import as_float32, csv_points, event_points, events

from glorasearch.db import RaceMember
from glorasearch.errors import ConfigError, InputError
from glorasearch.runs import RunConfig
from glorasearch.runs.curves import Curves, Row, Writer, tag
from glorasearch.runs.curves.csv_files import CsvFiles, file_name, stored_times
from glorasearch.runs.curves.event_file import EventFile
from glorasearch.runs.curves.hyperparameters import hyperparameters
from glorasearch.runs.curves.rows import RUNGS, TEST
from glorasearch.runs.curves.stored import rung_rows
from glorasearch.runs.curves.summary_file import SummaryFile
from glorasearch.space.score import BETAS

LOSSES = [Row("train", step, {"loss": 1 / step, "lr": 0.1}, time=1e9 + step) for step in (5, 10, 15)]


def writers(folder: Path) -> list[Writer]:
    return [CsvFiles(folder), EventFile(folder, {"train.steps": 15})]


def expected(rows: list[Row]) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.values.items():
            found.setdefault(name, []).append((row.step, value))
    return found


def check(folder: Path, rows: list[Row]) -> None:
    """Tables and event files hold these rows of one stage, nothing twice and nothing else."""
    wanted = expected(rows)
    assert csv_points(folder, rows[0].stage) == wanted
    tagged = {tag(rows[0].stage, name): points for name, points in wanted.items()}
    assert event_points(folder) == as_float32(tagged)


def test_points_are_in_the_files_as_soon_as_they_are_measured(tmp_path: Path) -> None:
    curves = Curves([CsvFiles(tmp_path)])
    for count, row in enumerate(LOSSES, 1):
        curves.add([row])
        assert csv_points(tmp_path, "train") == expected(LOSSES[:count])


def test_numbers_that_come_later_find_their_row_and_their_column(tmp_path: Path) -> None:
    curves = Curves(writers(tmp_path))
    curves.add(LOSSES[:2])
    curves.add([Row("train", 10, {"probe": 0.5}), LOSSES[2], Row("train", 15, {"probe": 0.75})])
    curves.close("finished")
    rows = [LOSSES[0], *(Row("train", row.step, {**row.values, "probe": 7.5 / (25 - row.step)}) for row in LOSSES[1:])]
    rows[1] = Row("train", 10, {**LOSSES[1].values, "probe": 0.5})
    check(tmp_path, rows)
    assert len((tmp_path / "train.csv").read_text().splitlines()) == 4


def test_what_is_measured_again_replaces_what_was_there(tmp_path: Path) -> None:
    Curves(writers(tmp_path)).add(LOSSES)  # a process that was killed at step 15, with a checkpoint of step 5
    with (tmp_path / "train.csv").open("a") as file:
        file.write("20,2001-")  # and in the middle of a row
    again = [Row("train", row.step, {"loss": row.values["loss"] + 1, "lr": 0.1}) for row in LOSSES[1:]]
    more = Row("train", 20, {"loss": 0.5, "lr": 0.1})
    curves = Curves(writers(tmp_path), LOSSES)
    curves.add([again[0]])
    curves.add([again[1], more])
    curves.close("finished")
    check(tmp_path, [LOSSES[0], *again, more])
    assert sum(path.stat().st_size > 0 for path in tmp_path.glob("*tfevents*")) == 1


def test_a_tensorboard_that_is_open_forgets_what_was_replaced(tmp_path: Path) -> None:
    first = Curves([EventFile(tmp_path, {})], LOSSES)
    reader = events(tmp_path)
    assert len(reader.Scalars("train/loss")) == 3
    first.add([Row("train", 10, {"loss": 7.0}), Row("train", 20, {"loss": 8.0})])
    first.close("finished")
    reader.Reload()
    found = {one.step: one.value for one in reader.Scalars("train/loss")}
    assert (found[10], found[20], len(reader.Scalars("train/loss"))) == (7.0, 8.0, 4)


def test_the_same_once_more_changes_no_file(tmp_path: Path) -> None:
    rows = [*LOSSES, Row("train", 20, {"loss": math.nan, "lr": math.inf})]
    curves = Curves([CsvFiles(tmp_path), EventFile(tmp_path, {})], rows)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    curves.add(rows)
    curves.settle()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert (tmp_path / "train.csv").read_text().endswith(",nan,inf\n")


def test_times_of_an_earlier_process_are_kept(tmp_path: Path) -> None:
    Curves([CsvFiles(tmp_path)]).add(LOSSES)
    assert stored_times(tmp_path, ["train", "refit"]) == {("train", row.step): row.time for row in LOSSES}
    (tmp_path / "train.csv").write_bytes(b"step,time\n5,\xff\n")
    assert stored_times(tmp_path, ["train"]) == {}


def test_a_disk_that_fails_is_said_once_and_caught_up_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "curves"
    folder.write_text("in the way")
    with caplog.at_level(logging.WARNING):
        curves = Curves(writers(folder))
        curves.add(LOSSES[:1])
        curves.settle()
        curves.add(LOSSES[1:2])
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"curves: {folder}/events.out.tfevents.* cannot be written (File exists); the run goes on" in said
    folder.unlink()
    curves.settle()
    curves.add(LOSSES[2:])
    curves.close("finished")
    check(folder, LOSSES)
    assert len(caplog.records) == 1


def test_a_process_may_open_the_curves_of_a_run_twice_within_a_second(tmp_path: Path) -> None:
    for _ in range(3):
        Curves(writers(tmp_path), LOSSES).close("finished")
    check(tmp_path, LOSSES)


def test_evaluations_are_the_rows_of_a_summary(tmp_path: Path) -> None:
    curves = Curves([SummaryFile(tmp_path)], LOSSES[:1])
    assert not (tmp_path / "summary.csv").exists()
    curves.add([*LOSSES[1:], Row("train", 15, {"search_accuracy": 0.5}), Row("train", 18, {"search_accuracy": 0.75})])
    curves.add([Row("search", 1, {"fitness": 2.0}), Row("race", 3, {"best_accuracy": 0.5})])
    curves.add([Row(TEST, 0, {"accuracy": 0.25, "auc": 0.5, "baseline/a/b/accuracy": 0.125})])
    curves.close("finished")
    with (tmp_path / "summary.csv").open(newline="") as file:
        rows = [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]
    training = {"stage": "train", "train_loss": repr(1 / 15), "lr": "0.1"}
    assert rows == [
        {**training, "step": "15", "eval_accuracy": "0.5"},
        {**training, "step": "18", "eval_accuracy": "0.75"},
        {"stage": "test", "model": "winner", "step": "0", "eval_accuracy": "0.25", "eval_auc": "0.5"},
        {"stage": "test", "model": "a/b", "step": "0", "eval_accuracy": "0.125"},
    ]


def test_the_configuration_is_in_the_event_file(tmp_path: Path) -> None:
    config = {"name": "one", "train": {"lr": "auto", "steps": 15, "head_lr": None}, "race": {"rates": [0.1, 0.2]}}
    found = hyperparameters({**config, "data": {"source": "s3://user:hunter22@bucket/x"}})
    assert found["train.lr"] == "auto"
    assert (found["train.steps"], found["race.rates"], "train.head_lr" in found) == (15, "[0.1, 0.2]", False)
    assert "hunter22" not in str(found)
    Curves([EventFile(tmp_path, found)]).close("finished")
    content = events(tmp_path).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"train.steps" in content
    assert b"hunter22" not in content


def test_scores_of_rungs_are_over_all_folds_so_far() -> None:
    def member(label: str, fold: int, rung: int, correct: int, nats: float | None) -> RaceMember:
        grid = None if nats is None else (nats,) * len(BETAS)
        return RaceMember(
            candidate=label,
            fold=fold,
            label=label,
            rung=rung,
            images=10,
            correct=correct,
            nats=grid,
            steps=5,
            seconds=1.0,
        )

    members = [member("a", 0, 1, 5, 10.0), member("b", 0, 1, 4, None), member("a", 1, 2, 9, 20.0)]
    first = Row(RUNGS, 1, {"accuracy/a": 0.5, "tempered/a": 1.0, "accuracy/b": 0.4}, time=0)
    second = Row(RUNGS, 2, {"accuracy/a": 0.7, "tempered/a": 1.5}, time=0)
    found = [Row(row.stage, row.step, row.values, time=0) for row in rung_rows(members, 2)]
    assert found == [first, second]
    assert len(list(rung_rows(members, 1))) == 1  # a rung that goes on has no scores yet


@pytest.mark.parametrize("stage", ["baseline:a/b", "baseline:" + "x" * 300, "baseline:../../a"])
def test_names_that_no_file_can_have(stage: str, tmp_path: Path) -> None:
    Curves([CsvFiles(tmp_path)], [Row(stage, 1, {"loss": 1.0})])
    (path,) = tmp_path.iterdir()
    assert path.name == file_name(stage)
    assert file_name(stage) != file_name(stage.replace("/", "-") + "x")


def test_the_section_of_a_run_file() -> None:
    required = {"backbone": {"name": "vit"}, "data": {"source": "digits"}}
    assert RunConfig.from_dict(required).log.to == ("tensorboard", "csv")
    with pytest.raises(ConfigError, match=r"log\.to.*'tensorboard', 'csv', 'mlflow', 'wandb' or 'otlp'"):
        RunConfig.from_dict(required, ['log.to=["comet"]'])
    with pytest.raises(ConfigError, match="to names a place twice"):
        RunConfig.from_dict(required, ['log.to=["csv", "csv"]'])
    with pytest.raises(ConfigError, match="give it by MLFLOW_TRACKING_USERNAME and"):
        RunConfig.from_dict(required, ["log.mlflow_uri=http://me:hunter22@host:5000"])
    changed = RunConfig.from_dict(required, ['log.to=["csv"]', "log.search_every=5", "log.project=other"])
    assert changed.log.search_every == 5


@pytest.mark.parametrize(("package", "name"), [("mlflow", "MLflow"), ("wandb", "Weights & Biases")])
def test_a_tracker_that_is_not_installed_is_refused(package: str, name: str) -> None:
    required = {"backbone": {"name": "vit"}, "data": {"source": "digits"}, "log": {"to": [package]}}
    try:
        __import__(package)
    except ImportError:
        with pytest.raises(InputError, match=rf"{name} is not installed: pip install 'glorasearch\[{package}\]'"):
            RunConfig.from_dict(required).log.check()
    else:
        pytest.skip(f"{package} is installed here")
