"""A search starts from subnets of earlier runs, resolved once, when the run is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.study import StudyDirection
from support.stage_results import SUBNET, candidate, result

from glorasearch.db import TrialStorage
from glorasearch.errors import ConfigError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.stored_run import StoredRun
from glorasearch.runs.workspace import Workspace
from glorasearch.search.study import Genome
from glorasearch.space import LayerShape, SearchSpace, Subnet

REQUIRED: dict[str, Any] = {"name": "mine", "backbone": {"name": "vit"}, "data": {"source": "digits"}}
SPACE = SearchSpace.from_dict({"name": "old", "choices": {"B": ["none", "lora:2", "lora:4"], "E": ["vector"]}}).bind(
    [LayerShape("blocks.0.fc", 8, 8), LayerShape("blocks.1.fc", 8, 8)]
)
"""E has one choice, which trials do not store."""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


def stored(workspace: Workspace, *start: str) -> StoredRun:
    return StoredRun(RunConfig.from_dict(REQUIRED | {"search": {"start": list(start)}}), workspace)


def finish(workspace: Workspace, winner: Subnet, name: str = "old") -> None:
    """A run whose search has finished."""
    if workspace.runs.get(name) is None:
        workspace.runs.create(name, {}, "digest")
    workspace.runs.set_stage(name, "search", result("search", subnet=winner.to_dict(), digest=winner.digest))


def test_the_winner_and_any_trial_of_an_earlier_run(workspace: Workspace) -> None:
    trials = [SPACE.subnet(choices) for choices in (("none", "vector", "lora:2", "vector"), ("lora:4", "vector") * 2)]
    finish(workspace, trials[1])
    storage, genome = TrialStorage(workspace.database), Genome(SPACE)
    study = storage.create_new_study([StudyDirection.MINIMIZE], "old")
    params, attrs = [genome.params(trial) for trial in trials], [{"subnet": trial.digest} for trial in trials]
    storage.create_trials(study, 0, params, genome.distributions, attrs)

    starts = stored(workspace, "named", "run:old", "run:old/0").starts
    assert starts == {"run:old": trials[1], "run:old/0": trials[0]}
    with pytest.raises(ConfigError, match=r"'run:old/2': run 'old' has no trial '2'; it has the trials 0 to 1"):
        _ = stored(workspace, "run:old/2").starts
    with pytest.raises(ConfigError, match=r"has no trial 'best'"):
        _ = stored(workspace, "run:old/best").starts


def test_what_won_its_race_if_that_is_of_its_space(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    winner, pick = SPACE.smallest(), SPACE.largest()
    finish(workspace, winner)
    named = candidate("lora:4 everywhere", "named", 0.75, subnet=pick.to_dict(), digest=pick.digest)
    method = candidate("lora", "method", 0.5)

    workspace.runs.set_stage("old", "race", result("race", candidates=[named, method]))
    assert stored(workspace, "run:old").starts == {"run:old": pick}
    assert not caplog.messages

    workspace.runs.set_stage("old", "race", result("race", candidates=[method, named]))
    assert stored(workspace, "run:old").starts == {"run:old": winner}
    assert caplog.messages == [
        "search.start: 'run:old' is the winner of its search, trial 3: its race was won by lora at 0.003, which is no "
        "subnet of its search space"
    ]


def test_it_is_resolved_once_when_the_run_is_made(workspace: Workspace) -> None:
    first, second = SPACE.smallest(), SPACE.largest()
    finish(workspace, first)
    run = stored(workspace, "run:old")
    run.open()

    finish(workspace, second)
    again = stored(workspace, "run:old")
    assert again.find() is not None
    assert again.starts == {"run:old": first}
    workspace.runs.delete("old")
    assert stored(workspace, "run:old").starts == {"run:old": first}

    finish(workspace, second)
    again.start_over()
    assert again.starts == {"run:old": second}
    with pytest.raises(ConfigError, match=rf"starts.run:old: '{first.digest[:12]}' then, '{second.digest[:12]}' now"):
        again.find()


def test_a_file_is_part_of_what_the_run_is(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(SUBNET.to_json())
    run = stored(workspace, str(path))
    run.open()
    assert stored(workspace, str(path)).find() is not None
    path.write_text(SPACE.smallest().to_json())
    with pytest.raises(ConfigError, match=r"another configuration .*mine.json"):
        stored(workspace, str(path)).find()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("run:nobody", r"'run:nobody': no run 'nobody' in .*; known are: unfinished"),
        ("run:unfinished", r"the search of run 'unfinished' has not finished"),
        ("run:mine", r"a run cannot start from itself"),
        ("run:", r"no run ''"),
    ],
)
def test_a_run_that_has_nothing_to_give_is_refused(workspace: Workspace, entry: str, message: str) -> None:
    workspace.runs.create("unfinished", {}, "digest")
    with pytest.raises(ConfigError, match=message):
        _ = stored(workspace, entry).starts
