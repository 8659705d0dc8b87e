"""Curves in MLflow and Weights & Biases, with the real packages, offline; skipped where they are not installed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from support.curves import records_of

from glorasearch.runs.curves import Curves, Row
from glorasearch.runs.curves.mlflow_tracker import MlflowTracker, mlflow_name, tracking_uri
from glorasearch.runs.curves.wandb_tracker import WandbTracker

LOSSES = [Row("train", step, {"loss": 1 / step}, time=1e9 + step) for step in (5, 10, 15)]
TRIALS = [Row("search", step, {"fitness": float(step)}, time=2e9 + step) for step in (1, 2)]
SETTINGS: dict[str, Any] = {"train.steps": 15, "data.source": "digits"}


def mlflow(folder: Path) -> MlflowTracker:
    pytest.importorskip("mlflow", reason="MLflow is not installed here")
    return MlflowTracker(tracking_uri(None, folder), "shop", "one", folder / "curves" / "mlflow.json", SETTINGS)


def logged(folder: Path) -> tuple[Any, dict[str, list[tuple[int, float]]]]:
    """The only run that MLflow has, and its metrics."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(None, folder))
    experiment = client.get_experiment_by_name("shop")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    keys = run.data.metrics
    history = {key: client.get_metric_history(run.info.run_id, key) for key in keys}
    return run, {key: [(one.step, one.value) for one in found] for key, found in history.items()}


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def test_mlflow_has_each_point_once_whatever_is_killed(tmp_path: Path) -> None:
    curves = Curves([mlflow(tmp_path)], LOSSES[:1])
    curves.add([LOSSES[1]])
    curves.close("finished")
    run, found = logged(tmp_path)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "one")
    assert run.data.params == {"train.steps": "15", "data.source": "digits"}
    assert found == {"train/loss": [(5, 0.2), (10, 0.1)]}

    curves = Curves([mlflow(tmp_path)], LOSSES)  # a point of which the tracker has not heard, 15
    curves.add([Row("train", 10, {"loss": 0.1, "lr": 0.5}), *TRIALS])  # measured again, and more
    curves.close("stopped")
    run, found = logged(tmp_path)
    assert run.info.status == "KILLED"
    assert {name: sorted(points) for name, points in found.items()} == {
        "train/loss": [(5, 0.2), (10, 0.1), (15, 1 / 15)],
        "train/lr": [(10, 0.5)],
        "search/fitness": [(1, 1.0), (2, 2.0)],
    }


def test_a_tracker_that_is_gone_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed here")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = MlflowTracker("http://me:hunter22@127.0.0.1:9", "shop", "one", tmp_path / "mlflow.json", {})
    with caplog.at_level(logging.WARNING, logger="glorasearch"):
        curves = Curves([tracker], LOSSES[:1])
        curves.add(LOSSES[1:])
        curves.settle()
        curves.close("finished")
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("glorasearch")]
    assert "curves: MLflow (http://***@127.0.0.1:9) does not take them (" in said
    assert "hunter22" not in said
    assert "the run goes on without" in said


def test_names_for_mlflow() -> None:
    assert mlflow_name("rungs/accuracy/trial 17 at 0.01, inherited") == "rungs/accuracy/trial 17 at 0.01- inherited"
    assert mlflow_name("test/baseline/../x//y") == "test/baseline/x/y"


def wandb(folder: Path) -> WandbTracker:
    pytest.importorskip("wandb", reason="Weights & Biases is not installed here")
    return WandbTracker(folder, "shop", "one", "2026-11-28", SETTINGS, offline=True)


def kept(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], set[tuple[str, str]]]:
    """Configuration, history and axes of the only run in the files of Weights & Biases."""
    from wandb.proto.wandb_internal_pb2 import Record

    (log,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    config: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    axes: dict[int, tuple[str, str]] = {}
    for content in records_of(log):
        record = Record.FromString(content)
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.HasField("metric") and record.metric.step_metric:
            axes[len(axes)] = record.metric.name, record.metric.step_metric
        if record.HasField("history"):
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            history.append({key: value for key, value in items.items() if not key.startswith("_")})
    return config, history, set(axes.values())


def test_weights_and_biases_offline_has_each_point_once_whatever_is_killed(tmp_path: Path) -> None:
    curves = Curves([wandb(tmp_path)], LOSSES[:1])
    curves.add([LOSSES[1]])
    curves.close("finished")
    config, history, axes = kept(tmp_path)
    assert config.items() >= SETTINGS.items()
    assert history == [{"train/loss": 0.2, "train/step": 5}, {"train/loss": 0.1, "train/step": 10}]
    assert ("train/loss", "train/step") in axes

    curves = Curves([wandb(tmp_path)], LOSSES)
    curves.add(TRIALS)
    curves.close("finished")
    _, history, axes = kept(tmp_path)
    assert history == [
        *({"train/loss": row.values["loss"], "train/step": row.step} for row in LOSSES),
        *({"search/fitness": row.values["fitness"], "search/step": row.step} for row in TRIALS),
    ]
    assert ("search/fitness", "search/step") in axes
