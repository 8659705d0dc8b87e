"""Early stopping in a run: supernet, refit and baselines end by themselves, the race does not; killed, it goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from support.runs import NAME

from glorasearch.db import RunStore
from glorasearch.runs.results import BaselineResult, Results

Bench = Any
SETTINGS = (
    "train.patience=1", "train.patience_every=6", "train.lr=5e-2", "train.ema_decay=0.9", "search.trials=4",
    "search.population=2", "search.parents=2", "report.random_subnets=0", "report.chance_subnets=0", "refit.steps=30",
    "race.enabled=true", "race.methods=['lora']", "race.rates=[1e-2]", "race.finalists=1", "race.named=0",
    "race.steps=4", "race.folds=2", "race.rungs=[1]", "race.keep=1", "refit.teachers=0", "report.steps=30",
    "report.best_fixed=false", "train.probe_every=0", "report.resamples=0",
)  # fmt: skip


def test_a_run_stops_by_itself_and_resumes(make_bench: Callable[..., Bench]) -> None:
    bench, killed = make_bench(*SETTINGS), make_bench(*SETTINGS)
    said = " ".join(bench.finish().split())
    results, report = Results(bench.record.stages), bench.report
    train, refit = results.train, results.refit
    baseline = results.get(BaselineResult, "lora")
    assert train is not None
    assert refit is not None
    assert baseline is not None
    for trained, most in ((train, 80), (refit, 30), (baseline, 30)):
        assert trained.kept_step is not None
        assert 0 < trained.kept_step == trained.steps - 6 * (trained.steps < most)
    assert train.steps < 80
    assert (
        f"supernet: {train.steps} of 80 steps; the weights after step {train.kept_step} are kept, the best on the 20 "
        in said
    )
    assert report["supernet"]["kept_step"] == train.kept_step
    assert report["refit"]["kept_step"] == refit.kept_step
    assert "20 training images judge when a training ends (train.patience)" in said
    assert results.race is not None
    assert {candidate.steps for candidate in results.race.candidates} <= {4, 8}, "the race trains all its steps"
    rows = RunStore(bench.database_url).metrics(NAME)
    metrics = [row.value for row in rows if (row.stage, row.name) == ("train", "patience_tempered")]
    assert len(metrics) == train.steps // 6
    assert min(metrics) == metrics[train.kept_step // 6 - 1]

    killed.stop_when(lambda: killed.steps("train") >= 8, killed.start(), signal.SIGKILL)
    killed.finish()
    assert killed.findings == bench.findings
    assert killed.exported == bench.exported


def test_images_of_which_none_may_judge_are_refused_before_the_training(
    make_bench: Callable[..., Bench], call: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, told = call(*make_bench("train.patience=1", "train.patience_share=0.001").arguments("run"))
    assert code == 2
    assert "train.patience_share is 0.001, which is no image of 200 different ones" in " ".join(told.split())
