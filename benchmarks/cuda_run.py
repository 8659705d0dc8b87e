"""The whole run on a GPU, and what is measured with the supernet that it has trained."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from arithmetic import work_of
from cuda_backbone import pretrained
from cuda_floors import BACKBONE, ForwardFloor, milliseconds
from safetensors.torch import save_file
from table import Row
from variant_float8 import float8

from glorasearch.data import SearchSplit
from glorasearch.db import TrialStorage, sqlite_url
from glorasearch.evaluation import CandidateEvaluator
from glorasearch.runs import Run, RunConfig, Workspace
from glorasearch.runs.results import TrainResult
from glorasearch.runs.session import Session
from glorasearch.search import InProcessExecutor, SearchConfig, SearchDriver
from glorasearch.space import Score, sample, sample_within_budget
from glorasearch.supernet import Supernet

TRIALS = 1_050
RUN = """
name = "bench"
device = "cuda"
[backbone]
name = "vit_base_patch16_224"
checkpoint = "weights.safetensors"
[data]
source = "digits"
train = 800
search = 200
[space]
name = "glora_medium"
[train]
steps = {steps}
lr = 1e-3
[search]
trials = {trials}
[race]
{race}
[refit]
steps = 1000
"""
RACES = {
    False: "enabled = false",
    True: 'finalists = 4\nnamed = 0\nmethods = ["lora_r8"]\nrates = [1e-3]',
}
"""Without a race; with one of four finalists and one fixed method at one rate, 400 steps a training, five folds."""


def job_rows(folder: Path, steps: int = 6_000, trials: int = TRIALS, *, race: bool = False) -> list[Row]:
    """The whole job in one process, from the start of the interpreter to the exported model."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(pretrained(BACKBONE, steps=1_000).state_dict(), folder / "weights.safetensors")
    (folder / "run.toml").write_text(RUN.format(steps=steps, trials=trials, race=RACES[race]), "utf-8")
    started = time.perf_counter()
    command = [sys.executable, "-m", "glorasearch", "run", str(folder / "run.toml"), "--workspace", str(folder / "w")]
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    report = json.loads((folder / "w" / "runs" / "bench" / "report.json").read_text("utf-8"))
    print(json.dumps(report, indent=1)[:6000])
    middle = "race of 4 finalists and LoRA" if race else "refit"
    what = f"whole job: {steps:,} steps, {trials:,} candidates, {middle}, export, test"
    return [Row(what=what, measured=seconds, unit="s", target=150.0 if race else 240.0)]


def open_session(folder: Path) -> Session:
    """The run that `job_rows` has finished; a shorter one if it has not."""
    if not (folder / "run.toml").exists():
        job_rows(folder, steps=2_000, trials=50)
    return Run(RunConfig.load(folder / "run.toml"), Workspace.open(folder / "w")).session()


def search_rows(folder: Path) -> list[Row]:
    """A search of 1,050 candidates with and without early stopping: what it costs, and that it finds the same."""
    session = open_session(folder)
    supernet = session.load(session.supernet(), TrainResult)
    split = session.data.search
    floor = milliseconds(ForwardFloor(split.batch(slice(0, len(split)), "cuda")[0]).graph.replay, 60)
    found: dict[bool, dict[str, Any]] = {}
    for early_stopping in (False, True):
        found[early_stopping] = one_search(
            supernet, split, SearchConfig(trials=TRIALS, early_stopping=early_stopping), folder
        )
    plain, stopping = found[False], found[True]
    same = plain["params"] == stopping["params"] and plain["winner"] == stopping["winner"]
    note = f"same trials, parents and winner: {'yes' if same else 'NO'}; "
    note += f"{stopping['stopped_early']} of {TRIALS} stopped early, "
    note += f"{100 * stopping['share']:.0f} % of the images; without early stopping {plain['ms']:.1f} ms"
    return [
        Row(
            what="mean candidate of a search of 1,050 by the tempered fitness, against the plain forward",
            measured=stopping["ms"],
            reference=floor,
            unit="ms",
            target=0.4,
            note=note,
            flops=len(split) * stopping["share"] * work_of(supernet.model).forward,
            reference_flops=len(split) * work_of(supernet.model).forward,
        ),
        Row(what="the same search, wall time with sampling and storage", measured=stopping["wall"], unit="s"),
    ]


def one_search(supernet: Supernet, split: SearchSplit, config: SearchConfig, folder: Path) -> dict[str, Any]:
    """Trials, winner and costs of one search in a database of its own."""
    url = sqlite_url(folder / f"search-{config.early_stopping}.db")
    storage = TrialStorage(url)
    evaluator = CandidateEvaluator(supernet, split, device="cuda", hardest_first=True)
    warm = sample(supernet.space, np.random.default_rng(1))
    evaluator.evaluate(warm)
    with InProcessExecutor(evaluator) as executor:
        driver = SearchDriver(supernet.space, storage, executor, "weights", "study", config)
        started = time.perf_counter()
        outcome = driver.run()
        wall = time.perf_counter() - started
    study = storage.get_study_id_from_name("study")
    return {
        "params": [trial.params for trial in storage.get_all_trials(study, deepcopy=False)],
        "winner": outcome.best.subnet_digest,
        "stopped_early": outcome.stopped_early,
        "share": outcome.images_share,
        "ms": outcome.evaluation_seconds / TRIALS * 1e3,
        "wall": wall,
    }


def bf16_rows(folder: Path, name: str = "bfloat16") -> list[Row]:
    """The ranking of 200 candidates in bfloat16, or with products in float8, against the plain float32 forward."""
    session = open_session(folder)
    supernet = session.load(session.supernet(), TrainResult)
    rng = np.random.default_rng(5)
    nets = [sample_within_budget(supernet.space, rng) for _ in range(200)]
    scores: dict[str, list[Score]] = {}
    for precision, mode in ((name, "on"), ("float32", "off")):
        computed = "float32" if mode == "off" else "bfloat16"
        with float8() if precision == "float8" else nullcontext():
            evaluator = CandidateEvaluator(
                supernet, session.data.search, device="cuda", compile=mode, precision=computed
            )
            scores[precision] = [evaluator.evaluate(net) for net in nets]
    ranks = {precision: sorted(range(200), key=lambda i: found[i].tempered) for precision, found in scores.items()}
    shared = len(set(ranks[name][:10]) & set(ranks["float32"][:10]))
    winner = ranks[name][0]
    difference = abs(scores[name][winner].correct - scores["float32"][winner].correct)
    worst = max(abs(a.tempered - b.tempered) for a, b in zip(scores[name], scores["float32"], strict=True))
    spread = statistics.stdev(result.tempered for result in scores["float32"])
    return [
        Row(
            what=f"top 10 of 200 candidates that {name} and float32 do not share",
            measured=10 - shared,
            unit="",
            target=0 if name == "float8" else 1,
            note=f"tempered cross-entropy differs by at most {worst:.2e} nats, candidates by {spread:.2e}",
        ),
        Row(
            what=f"the winner's images that {name} and float32 score differently",
            measured=difference,
            unit="",
            target=1,
        ),
    ]
