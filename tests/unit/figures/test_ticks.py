"""No two ticks of an axis read alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from glorasearch.db import Database, RunStore, TrialStorage
from glorasearch.figures import RunFacts, draw, figures_of
from glorasearch.figures.figure import Figure
from glorasearch.runs.config import RunConfig
from glorasearch.search import TrialRecord
from glorasearch.space import Score

GENES: dict[str, BaseDistribution] = {"blocks.0.fc.B": CategoricalDistribution(("none", "lora:4"))}


def axes(figure: Figure) -> Iterator[list[str]]:
    """What the ticks of each axis read."""
    for part in draw(figure, "svg").decode().split('class="mark-group role-axis"')[1:]:
        labels = re.search('class="mark-text role-axis-label".*?</g>', part, re.DOTALL)
        if labels is not None:
            yield re.findall("<text[^>]*>([^<]*)</text>", labels[0])


def facts_of(folder: Path, trials: int) -> RunFacts:
    """A search of so many trials whose scores are close."""
    database = Database(f"sqlite:///{folder}/glorasearch.db")
    config = RunConfig.model_validate(
        {"backbone": {"name": "quickstart"}, "data": {"source": "digits"}, "space": {"name": "lean"}}
    )
    RunStore(database).create("close", config.model_dump(mode="json"), "d" * 64)
    storage = TrialStorage(database)
    study = storage.create_new_study([StudyDirection.MINIMIZE], "close")
    for number in range(trials):
        trial, attrs = storage.create_new_trial(study), {"subnet": f"{number:064}", "parameters": 1_000 + number}
        storage.set_trial_params(trial, {"blocks.0.fc.B": "none"}, GENES, attrs)
        loss = 0.05 - 1e-4 * number
        score = Score(970 + number % 7, 1000, cross_entropy=loss, tempered=loss, beta=1.0)
        record = TrialRecord(number, f"{number:064}", 1_000 + number, score)
        storage.finish_trial(trial, TrialState.COMPLETE, [loss], record.to_attrs())
    return RunFacts.read(database, "close", None)


@pytest.mark.parametrize("trials", [12, 20, 30, 50, 150, 160, 400])
def test_ticks_of_a_search_are_told_apart(tmp_path: Path, trials: int) -> None:
    found = figures_of(facts_of(tmp_path, trials))
    assert {"generations", "front"} <= {one.key for one in found}
    for figure in found:
        for labels in axes(figure):
            assert len(set(labels)) == len(labels), (figure.key, labels)


def test_no_tick_reads_as_thousands_of_nothing(tmp_path: Path) -> None:
    """Parameters from 1,000: the axis begins at `0`, not at `0k`, and goes on to `500` and `1k`."""
    (front,) = (one for one in figures_of(facts_of(tmp_path, 30)) if one.key == "front")
    parameters = next(labels for labels in axes(front) if "1k" in labels)
    assert parameters[0] == "0"
    assert "500" in parameters
