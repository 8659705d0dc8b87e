"""A refit without a race is judged on held-out parts of the search split, if that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from glorasearch.runs.results import RefitResult, Results

Bench = Any
SMALL = ("search.trials=4", "search.population=2", "search.parents=2", "report.baselines=[]", "report.random_subnets=0",
    "report.chance_subnets=0", "train.probe_every=0")  # fmt: skip


def refit_of(bench: Bench) -> RefitResult:
    found = Results(bench.record.stages).refit
    assert found is not None
    assert found.judged is not None
    return found


def test_a_worse_refit_is_said_and_not_exported(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(*SMALL, "refit.start='fresh'", "refit.steps=2", "refit.folds=3")
    said = bench.finish()
    found, report = refit_of(bench), bench.report
    judged = found.judged
    assert judged is not None
    assert judged.worse
    assert (judged.folds, judged.images, judged.steps) == (3, 100, 6)
    assert (found.steps, found.start, found.weights) == (0, "inherited", Results(bench.record.stages).train.weights)
    assert report["winner"]["test_accuracy"] == report["winner"]["test_accuracy_inherited"]
    assert judged.sentence.endswith("it is worse, so the inherited weights are exported.")
    assert judged.sentence in report["statements"]
    assert judged.sentence in (bench.folder / "export" / "README.md").read_text()
    assert judged.sentence[:60] in said
    assert "refit.folds is 0" not in said


def test_a_better_refit_is_made_as_without_being_judged(make_bench: Callable[..., Bench]) -> None:
    settings = (*SMALL, "train.steps=2", "refit.steps=40", "refit.lr=4e-3")
    bench, plain = make_bench(*settings, "refit.folds=2"), make_bench(*settings)
    bench.stop_when(lambda: bench.checkpoint("refit:fold2").exists() or bench.has_stage("refit"), bench.start())
    bench.finish()
    assert "no image is left to say whether it makes the weights better, as refit.folds is 0" in plain.finish()
    found = refit_of(bench)
    judged = found.judged
    assert judged is not None
    assert not judged.worse
    assert judged.correct > judged.correct_inherited
    assert found.weights == Results(plain.record.stages).refit.weights
    assert not list((bench.folder / "checkpoints").glob("refit*"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("refit.folds=1",), "a refit that is judged has at least 2 folds"),
        (("refit.folds=2", "refit.steps=0"), "a refit that is judged has at least 2 folds, and steps"),
        (("refit.folds=2", "race.enabled=true"), "a race judges by race.folds: leave refit.folds out"),
        (("refit.folds=101",), "refit.folds is 101, but the search split has 100 images"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    overrides: tuple[str, ...],
    message: str,
    make_bench: Callable[..., Bench],
    call: Callable[..., tuple[int, str, str]],
) -> None:
    code, _, told = call(*make_bench(*overrides).arguments("run"))
    assert code != 0
    assert message in " ".join(told.split())
