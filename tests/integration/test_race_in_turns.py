"""A race on a backbone that fills a GPU: finalists and named points take turns in the fused step of their space.

What fills a GPU is asked for by the size of backbone and batch; here the answer is given, and all the rest is real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from glorasearch.runs import Run
from glorasearch.runs.config import RunConfig
from glorasearch.runs.race_backends import LocalRace
from glorasearch.runs.race_stacks import MemberSpec, StackMaker
from glorasearch.runs.results import RaceResult, Results
from glorasearch.runs.workspace import Workspace
from glorasearch.stacked import StackedTrainer

RACE = (
    "race.enabled=true", 'race.methods=["lora", "ssf"]', "race.rates=[1e-3, 1e-2]", "race.finalists=2", "race.named=1",
    "race.steps=12", "race.folds=2", "race.rungs=[1]", "race.keep=3", "race.stack=8",
    "search.trials=24", "train.steps=12",
)  # fmt: skip


def raced(bench: Any) -> RaceResult:
    """The race of a run in this process."""
    run = Run(RunConfig.load(bench.run_file, bench.overrides), Workspace.open(bench.workspace))
    for command in ("train", "search", "race"):
        run.execute(command)
    found = Results(bench.record.stages).race
    assert found is not None
    return found


def test_those_of_the_runs_own_space_have_stacks_of_their_own(
    make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two finalists and a named point at two rates; the methods stay in another stack."""
    expected = raced(make_bench(*RACE))
    trained: list[tuple[set[str], str]] = []
    train, run = StackMaker.train, StackedTrainer.run

    def spy_train(self: StackMaker, specs: Sequence[MemberSpec], **given: Any) -> Any:
        trained.append(({spec.space.name for spec in specs}, ""))
        return train(self, specs, **given)

    def spy_run(self: StackedTrainer) -> Any:
        if trained and not trained[-1][1]:
            trained[-1] = trained[-1][0], self.kind
        return run(self)

    monkeypatch.setattr(LocalRace, "takes_turns", lambda self, members: self._maker.takes_turns(members, self.device))
    monkeypatch.setattr("glorasearch.stacked.build._fills", lambda order: len(order.members) > 1)
    monkeypatch.setattr(StackMaker, "train", spy_train)
    monkeypatch.setattr(StackedTrainer, "run", spy_run)
    found = raced(make_bench(*RACE))
    assert trained[0][1] == "in turns", "six of the run's own space"
    assert not trained[0][0] & {"lora", "ssf"}
    assert trained[1] == ({"lora", "ssf"}, "one by one")
    assert found.trainings == expected.trainings
    rates = {(one.name, one.rate): one.scores[0].accuracy for one in expected.candidates}
    for one in found.candidates:
        assert one.scores[0].accuracy == pytest.approx(rates[one.name, one.rate], abs=0.05)
