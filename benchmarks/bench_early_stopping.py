"""What exact early stopping saves on the quickstart's supernet, and what the choices behind its defaults are worth.

    python benchmarks/bench_early_stopping.py [--json PATH] [--workspace DIR] [--trials 1050] [--fitness tempered]

One search without early stopping keeps every image's score of every candidate. From these scores the share of images
that a search with early stopping forwards is computed for each way of doing it. Then the search is run with early
stopping, its trials, parents and winner are compared, and its wall time for a candidate is set against the plain
forward of all images, which is measured before and after. The workspace is made if it does not hold a trained
quickstart (half a minute).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.random import default_rng
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from stopping_ways import CHUNKS, REFERENCES, Numbers, Scores, simulate
from table import Row, finish, json_option

from glorasearch.assets import quickstart_run_file
from glorasearch.db import TrialStorage, sqlite_url
from glorasearch.evaluation import CandidateEvaluator
from glorasearch.evaluation.scoring import score_sums
from glorasearch.runs import Run
from glorasearch.runs.config import RunConfig
from glorasearch.runs.results import TrainResult
from glorasearch.runs.session import Session
from glorasearch.runs.workspace import Workspace
from glorasearch.search import InProcessExecutor, SearchConfig, SearchDriver, SearchOutcome
from glorasearch.space import (
    BETAS,
    FITNESSES,
    Evaluate,
    EvaluationResult,
    EvaluationTask,
    Fitness,
    Score,
    Subnet,
    sample_within_budget,
)
from glorasearch.space.early_stopping import UNIT
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY

TARGET = 0.6


def trained(workspace: Path) -> tuple[Session, Supernet]:
    """The quickstart's run and its supernet, trained if it is not yet."""
    run = Run(RunConfig.load(quickstart_run_file()), Workspace.open(workspace))
    run.execute("train")
    session = run.session()
    return session, session.load(session.supernet(), TrainResult).eval()


class Recorder:
    """Evaluates without early stopping, and keeps the scores of every image."""

    def __init__(self, evaluator: CandidateEvaluator) -> None:
        self._model, self._chunks = evaluator.model, evaluator.chunks
        self.rows: list[tuple[Numbers, NDArray[np.bool_]]] = []

    @torch.inference_mode()
    def __call__(self, task: EvaluationTask) -> EvaluationResult:
        self._model.write(Subnet.from_json(task.subnet_json))
        logits = torch.cat([self._model.forward(images) for images in self._chunks])
        units = CLASSIFY.tempered_losses(logits, self._chunks.labels, torch.tensor(BETAS, dtype=torch.float64))
        wrong = logits.argmax(-1) != self._chunks.labels
        self.rows.append(((units * UNIT).numpy(), wrong.numpy()))
        total = len(wrong)
        score = Score.of(score_sums(logits, self._chunks.labels), total)
        return EvaluationResult(task.subnet_digest, score)

    def scores(self) -> Scores:
        """Of everything that was evaluated, in order."""
        return Scores(np.stack([nats for nats, _ in self.rows]), np.stack([wrong for _, wrong in self.rows]))


def search(
    supernet: Supernet, evaluate: Evaluate, config: SearchConfig, folder: Path
) -> tuple[SearchOutcome, list[FrozenTrial]]:
    """One search in a database of its own."""
    storage = TrialStorage(sqlite_url(f"{folder}/{config.fitness}-{config.early_stopping}.db"))
    outcome = SearchDriver(supernet.space, storage, InProcessExecutor(evaluate), "w", "study", config).run()
    return outcome, storage.get_all_trials(storage.get_study_id_from_name("study"), deepcopy=False)


class BesidePlainForwards:
    """Evaluates, and now and then times the plain forward of all images, so that a neighbour slows both."""

    def __init__(self, evaluator: CandidateEvaluator, backbone: torch.nn.Module, every: int = 10) -> None:
        self._evaluator, self._backbone, self._every = evaluator, backbone, every
        self._calls = 0
        self.forwards: list[float] = []
        """Seconds."""

    @torch.inference_mode()
    def __call__(self, task: EvaluationTask) -> EvaluationResult:
        if self._calls % self._every == 0:
            start = time.perf_counter()
            for images in self._evaluator.chunks:
                self._backbone(images)
            self.forwards.append(time.perf_counter() - start)
        self._calls += 1
        return self._evaluator(task)


def rows(workspace: Path, trials: int, fitnesses: Sequence[Fitness], *, tables: bool = True) -> list[Row]:
    """For each fitness: the mean cost of a candidate of a search with early stopping, against the plain forward."""
    session, supernet = trained(workspace)
    split, backbone = session.data.search, session.backbone.eval()
    references = Recorder(CandidateEvaluator(supernet, split))
    rng = default_rng(2306_07967)
    for _ in range(max(REFERENCES)):
        subnet = sample_within_budget(supernet.space, rng)
        references(EvaluationTask(subnet.to_json(), subnet.digest, "w"))
    found: list[Row] = []
    for fitness in fitnesses:
        with tempfile.TemporaryDirectory() as folder:
            recorder = Recorder(CandidateEvaluator(supernet, split))
            config = SearchConfig(trials=trials, fitness=fitness, early_stopping=False)
            expected, plain_trials = search(supernet, recorder, config, Path(folder))
            assert len(recorder.rows) == trials, "a subnet was met twice; the simulation takes each trial as evaluated"
            if tables:
                _print(simulate(recorder.scores(), references.scores(), fitness, config), fitness, trials)
            found.append(_real(supernet, session, backbone, fitness, trials, Path(folder), expected, plain_trials))
    return found


def _real(
    supernet: Supernet,
    session: Session,
    backbone: torch.nn.Module,
    fitness: Fitness,
    trials: int,
    folder: Path,
    expected: SearchOutcome,
    plain_trials: Sequence[FrozenTrial],
) -> Row:
    evaluator = CandidateEvaluator(supernet, session.data.search, hardest_first=True)
    start = time.perf_counter()
    assert evaluator.chunks.count > 1  # here the order is made
    ordering = time.perf_counter() - start
    beside = BesidePlainForwards(evaluator, backbone)
    outcome, made = search(supernet, beside, SearchConfig(trials=trials, fitness=fitness), folder)
    assert [trial.params for trial in made] == [trial.params for trial in plain_trials]
    assert outcome.subnet == expected.subnet
    assert replace(outcome.best.score, seconds=0) == replace(expected.best.score, seconds=0)
    completed = [trial for trial in made if trial.state == TrialState.COMPLETE]
    assert all(trial.values == plain_trials[trial.number].values for trial in completed)
    cost = (outcome.evaluation_seconds + ordering) / outcome.evaluated
    return Row(
        what=f"CPU: a candidate of a search of {trials:,} with early stopping ({fitness}), quickstart",
        measured=cost * 1e3,
        unit="ms",
        reference=statistics.fmean(beside.forwards) * 1e3,
        target=TARGET,
        note=f"{100 * outcome.images_share:.1f} % of the images, {outcome.stopped_early} stopped early, ordering them "
        f"{ordering:.2f} s in all; same trials and winner as without",
    )


def _print(shares: dict[str, dict[int, float]], fitness: Fitness, trials: int) -> None:
    print(f"\nshare of images forwarded, {fitness}, {trials:,} trials; by images of a chunk")
    print(f"{'':<64}" + "".join(f"{size:>8}" for size in CHUNKS))
    for name, row in shares.items():
        print(f"{name:<64}" + "".join(f"{value:>8.3f}" for value in row.values()), flush=True)
    print()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    json_option(parser)
    parser.add_argument("--workspace", type=Path, default=Path("/tmp/bench-early-stopping"), help="of a quickstart")
    parser.add_argument("--trials", type=int, default=1_050)
    parser.add_argument("--fitness", choices=FITNESSES, action="append", help="default: all")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    finish(rows(options.workspace, options.trials, options.fitness or FITNESSES), options)


if __name__ == "__main__":
    main()
