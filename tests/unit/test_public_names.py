"""The front door: which names it has, that it opens at once, and that the stages work as functions."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import glorasearch
from glorasearch.errors import ConfigError, DataError, ExportError

NAMES = [
    "AdapterServer",
    "BackboneConfig",
    "BoundSpace",
    "CandidateEvaluator",
    "Choice",
    "DataConfig",
    "GlorasearchError",
    "InputError",
    "Progress",
    "ProgressBars",
    "Report",
    "ResourceConfig",
    "Results",
    "Run",
    "RunConfig",
    "RunError",
    "Score",
    "SearchConfig",
    "SearchOutcome",
    "SearchSpace",
    "SpaceConfig",
    "Splits",
    "Subnet",
    "Supernet",
    "SupernetTrainer",
    "TrainSection",
    "TrainingConfig",
    "TrainingRecord",
    "TrainingResult",
    "TrialRecord",
    "TrialStorage",
    "Workspace",
    "__version__",
    "accuracy_on_test",
    "create_supernet",
    "export_subnet",
    "find_lr",
    "load_data",
    "load_export",
    "predict_images",
    "refit_subnet",
    "score_subnet",
    "search_subnets",
    "train_supernet",
]
PACKAGES = (
    "choices",
    "data",
    "db",
    "evaluation",
    "export",
    "race",
    "runs",
    "search",
    "serving",
    "space",
    "stacked",
    "statistics",
    "training",
    "weights",
)


def test_names_of_the_front_door() -> None:
    assert sorted(glorasearch.__all__) == NAMES
    assert dir(glorasearch) == NAMES
    for name in NAMES:
        assert getattr(glorasearch, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_of_a_package_is_there(package: str) -> None:
    module = importlib.import_module(f"glorasearch.{package}")
    assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_the_front_door_imports_nothing_heavy() -> None:
    script = "import sys, json, glorasearch; print(json.dumps([n for n in sys.argv[1:] if n in sys.modules]))"
    heavy = ["torch", "timm", "numpy", "optuna", "sqlalchemy", "pydantic", "ray", "pandas", "rich"]
    done = subprocess.run([sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'glorasearch' has no attribute 'Supernett'"):
        _ = glorasearch.Supernett


def test_the_stages_as_functions(tmp_path: Path) -> None:
    data = glorasearch.load_data("digits", "quickstart", train=200, search=60, test=100)
    supernet = glorasearch.create_supernet("quickstart", "lean", data.classes)
    trained = glorasearch.train_supernet(supernet, data.train, steps=12, lr=1e-2, batch_size=32, device="cpu")
    assert trained.steps == 12
    found = glorasearch.search_subnets(
        supernet, data.search, trials=12, population=6, parents=2, early_stopping=False, device="cpu"
    )
    again = glorasearch.score_subnet(supernet, found.subnet, data.search, device="cpu")
    assert (again.correct, again.cross_entropy) == (found.best.score.correct, found.best.score.cross_entropy)
    glorasearch.refit_subnet(supernet, found.subnet, data, steps=4, lr=1e-2, batch_size=32, device="cpu")
    exported = glorasearch.export_subnet(supernet, found.subnet, tmp_path / "model", data)
    model = glorasearch.load_export(exported.path)
    images, _ = data.test.batch(slice(0, 8))
    with torch.no_grad(), supernet.activate(found.subnet):
        assert torch.allclose(model(images), supernet(images), atol=1e-3)
    assert glorasearch.accuracy_on_test(model, data.test) == glorasearch.accuracy_on_test(
        supernet.merged(found.subnet), data.test
    )


def test_what_is_wrong_is_said_before_the_work(tmp_path: Path) -> None:
    data = glorasearch.load_data("digits", "quickstart", train=100, search=50, test=50)
    supernet = glorasearch.create_supernet("quickstart", "lean", data.classes)
    with pytest.raises(ConfigError, match="steps"):
        glorasearch.train_supernet(supernet, data.train, steps=-1)
    with pytest.raises(ConfigError, match="no_such_key"):
        glorasearch.search_subnets(supernet, data.search, no_such_key=1)
    with pytest.raises(ConfigError, match="trian"):
        glorasearch.load_data(glorasearch.DataConfig(source="digits"), "quickstart", trian=7)
    with pytest.raises(DataError, match="expected a TrainSplit"):
        glorasearch.train_supernet(supernet, data, steps=1)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="expected what load_data returns"):
        glorasearch.refit_subnet(supernet, supernet.space.largest(), data.train)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="10 classes, and the supernet 3 outputs"):
        glorasearch.train_supernet(glorasearch.create_supernet("quickstart", "lean", 3), data.train, steps=1)
    with pytest.raises(ExportError, match="not a model that glorasearch has exported"):
        glorasearch.load_export(tmp_path)


def test_options_beside_a_config_replace_its_fields() -> None:
    config = glorasearch.DataConfig(source="digits", train=300, search=50, test=50)
    assert len(glorasearch.load_data(config, "quickstart", train=100).train) == 100


def test_the_only_subnet_of_a_space_is_scored_once(tmp_path: Path) -> None:
    data = glorasearch.load_data("digits", "quickstart", train=100, search=50, test=50)
    supernet = glorasearch.create_supernet("quickstart", "lora", data.classes)
    found = glorasearch.search_subnets(supernet, data.search, storage=f"sqlite:///{tmp_path}/trials.db", device="cpu")
    assert (found.trials, found.subnet) == (1, supernet.space.largest())


def test_rooms_are_reached_from_the_package() -> None:
    script = "import glorasearch as gs; print(gs.errors.InputError.__name__, gs.runs.RunConfig.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["InputError", "RunConfig"]


def test_a_run_answers_with_typed_results(tmp_path: Path) -> None:
    config = {
        "name": "small",
        "device": "cpu",
        "threads": 1,
        "backbone": {"name": "quickstart"},
        "data": {"source": "digits", "train": 200, "search": 60, "test": 100},
        "space": {"name": "lean"},
        "train": {"steps": 10, "lr": 1e-2, "batch_size": 32, "record_every": 5},
        "search": {"trials": 12, "population": 6, "parents": 2},
        "race": {"enabled": False},
        "refit": {"steps": 4},
    }
    run = glorasearch.Run(config, tmp_path)
    assert (run.report, run.trials, run.metrics) == (None, [], [])
    report = run.execute()
    assert run.report == report
    assert run.results.search is not None
    assert report.winner.subnet == run.results.search.subnet
    frame = run.frame()
    assert len(frame) == len(run.trials) == 12
    assert frame.loc[report.winner.trial, "accuracy"] == report.winner.search_accuracy
    assert frame["stopped_early"].sum() == report.search.stopped_early
    assert {metric.stage for metric in run.metrics} == {"train", "refit"}
    again = glorasearch.Run(config, tmp_path)
    assert again.execute() == report
