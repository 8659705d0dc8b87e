"""The dashboard's view calls the objectives of a search by name and unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from optuna.study import StudyDirection, load_study

from glorasearch.db import SummarisingStorage, TrialStorage
from glorasearch.db.objective_names import objective_names
from glorasearch.search import SearchConfig
from glorasearch.search.objectives import COSTS, rises
from glorasearch.space import Fitness

NATS = "tempered cross-entropy, nats"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [NATS]),
        ({"fitness": "auc"}, ["AUC, 0 to 1"]),
        ({"sampler": "nsga2"}, ["accuracy, 0 to 1", "trainable parameters"]),
        ({"sampler": "nsga2", "objectives": ["tempered", "bytes", "latency"]},
         [NATS, "bytes of the adapter", "unmerged latency, ms"]),
    ],
)  # fmt: skip
def test_a_search_says_what_it_optimises(tmp_path: Path, settings: dict[str, Any], expected: list[str]) -> None:
    config = SearchConfig(**settings)
    url = f"sqlite:///{tmp_path}/trials.db"
    storage = TrialStorage(url)
    directions = [StudyDirection.MAXIMIZE if rises(name) else StudyDirection.MINIMIZE for name in config.optimised]
    study_id = storage.create_new_study(directions, "a search")
    storage.set_study_user_attr(study_id, "search", config.identity())
    view = SummarisingStorage(url)
    assert load_study(study_name="a search", storage=view).metric_names == expected
    assert view.get_all_studies()[0].system_attrs["study:metric_names"] == expected
    assert storage.get_study_system_attrs(study_id) == {}, "nothing is written"


def test_every_objective_has_words() -> None:
    for name in (*get_args(Fitness), *COSTS):
        (found,) = objective_names({"search": {"fitness": name}}, 1) or ()
        assert "_" not in found
        assert found != name


@pytest.mark.parametrize("attrs", [{}, {"search": "?"}, {"search": {}}, {"search": {"fitness": 3}}])
def test_a_study_of_something_else_has_no_names(attrs: dict[str, Any]) -> None:
    assert objective_names(attrs, 1) is None


def test_names_that_do_not_fit_are_left_out() -> None:
    assert objective_names({"search": {"objectives": ["accuracy", "bytes"]}}, 3) is None
