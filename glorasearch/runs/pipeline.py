"""All stages of a run in order, each once: a finished one is not done again, a broken one goes on where it was."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from glorasearch.adapters import adaptable_layers
from glorasearch.db import RunState
from glorasearch.errors import DataError, InputError, RunError
from glorasearch.runs.fit_elsewhere import check_train_workers, trains_elsewhere
from glorasearch.runs.fixed import has_one_subnet, other_baselines
from glorasearch.runs.records import (
    check_export_path,
    export_path,
    finished_result,
    forget_run,
    is_intact,
    open_run,
)
from glorasearch.runs.run import Run
from glorasearch.runs.stages.baseline import baseline, baseline_space
from glorasearch.runs.stages.export import export
from glorasearch.runs.stages.final_test import measure
from glorasearch.runs.stages.refit import refit
from glorasearch.runs.stages.report import report
from glorasearch.runs.stages.search import search, search_config
from glorasearch.runs.stages.train import train
from glorasearch.space import SearchSpace

Result = Mapping[str, Any]
Stage = Callable[[Run], Result]

STAGES: dict[str, Stage] = {"train": train, "search": search, "refit": refit, "export": export}
"""The stages that have a command of their own."""


def run_stages(run: Run, only: str | None = None, *, fresh: bool = False) -> Result:
    """Run all stages of a run, or one; returns the result of the last one.

    Everything that can be checked is checked before the first stage starts. The process owns the run meanwhile.

    Args:
        run: the run.
        only: one of `STAGES`; those before it must have finished.
        fresh: forget, once everything has been checked, what a run of this name has done.

    Raises:
        InputError: if the run cannot work as it is described.
        RunLockedError: if another live process is at this run.
        RunError: if a stage fails; what finished before it is kept.
    """
    if not fresh:
        known = finished_result(run.runs, run.config, run.workspace, only)
        if known is not None:
            return known
    _check(run, only, fresh)
    stages = _plan(run) if only is None else {only: STAGES[only]}
    if fresh:
        forget_run(run.name, run.workspace, run.database)
        run.reuse = False
    open_run(run.runs, run.config)
    result: Result = {}
    with run.runs.lock(run.name) as lease:
        run.runs.set_state(run.name, RunState.RUNNING)
        try:
            again = False
            for name, stage in stages.items():
                lease.check()  # what a stage writes outside of the database is not fenced
                result, done = _once(run, name, stage, again=again and name == "report")
                again |= done
        except KeyboardInterrupt:
            run.runs.set_state(run.name, RunState.STOPPED)
            raise
        except BaseException as error:
            run.runs.set_state(run.name, RunState.FAILED, error=f"{type(error).__name__}: {error}")
            raise
        finished = run.result("report") is not None
        run.runs.set_state(run.name, RunState.FINISHED if finished else RunState.STOPPED)
    return result


def _check(run: Run, only: str | None, fresh: bool) -> None:
    """Refuse what cannot work before anything is started or forgotten, the cheapest first."""
    search_config(run)
    check_train_workers(run)
    run.store.check(write=only not in ("search", "export"))
    for name in run.config.report.baselines:
        SearchSpace.load(name)
    for name in itertools.takewhile(lambda name: name != only, STAGES if only is not None else ()):
        if fresh:
            raise InputError(
                f"--fresh would forget stage {name!r}, which {only!r} needs; start over by `glorasearch train --fresh`"
            )
        run.require(name)
    if only in (None, "export"):
        check_export_path(export_path(run.config, run.workspace))
    run.check()
    if not run.resources.local and needs_workers(run):
        run.resources.check(torch.cuda.device_count())
    if not fresh:
        check_data(run)
    for name in run.config.report.baselines:
        baseline_space(name, adaptable_layers(run.backbone))


def needs_workers(run: Run) -> bool:
    """Whether a stage of the run may use workers: one candidate alone is scored in this process."""
    return trains_elsewhere(run) or not has_one_subnet(run)


def check_data(run: Run) -> None:
    """Refuse to go on with other images than the finished stages saw: those of the test split may be among these.

    Raises:
        DataError: naming the stage and the source.
    """
    record = run.runs.get(run.name)
    for name, result in ({} if record is None else record.stages).items():
        before = result.get("split")
        if before is None:
            continue
        alone = {"train": run.data.train, "search": run.data.search}.get(name)
        now = (run.data.train_and_search() if alone is None else alone).digest
        if now != before:
            raise DataError(
                f"{run.config.data.source}: the images are not those that stage {name!r} of run {run.name!r} saw "
                f"(digest {before[:12]} then, {now[:12]} now). Put them back as they were, give this run another name "
                "by --set name=<name>, or start over by --fresh"
            )


def _plan(run: Run) -> dict[str, Stage]:
    """The stages of a whole run; the export comes after the test, so that the model card can give its result."""
    names = other_baselines(run)
    for name in run.config.report.baselines:
        if name not in names:
            run.progress.say(f"baseline {name}: this run's own method, not trained a second time")
    baselines = {f"baseline:{name}": (lambda run, name=name: baseline(run, name)) for name in names}
    return {"train": train, "search": search, "refit": refit, **baselines, "test": measure, "export": export} | {
        "report": report
    }


def _once(run: Run, name: str, stage: Stage, *, again: bool = False) -> tuple[Result, bool]:
    """The result of a stage, and whether it had to be run.

    A stage that has finished is run again if its files or its weights were removed since; weights must come out the
    same then if other stages have used them.
    """
    record = run.runs.get(run.name)
    stages = {} if record is None else record.stages
    known = stages.get(name)
    lost = known is not None and "weights" in known and known["weights"] not in run.store
    if known is not None and not lost and not again and is_intact(name, stages, run.config, run.workspace):
        run.forget_checkpoint(name)
        return known, False
    if lost:
        run.progress.say(f"the weights of stage {name!r} are not in the weight store {run.store.url}: running it again")
    result = stage(run)
    used = ("search",) if name == "train" else ("test", "export")
    if known is not None and lost and result["weights"] != known["weights"] and any(other in stages for other in used):
        raise RunError(
            f"stage {name!r} was run again because its weights were gone, and ended in other weights "
            f"({result['weights'][:12]}, before {known['weights'][:12]}); what later stages found does not belong to "
            "them. Put the old weights back, or start over by --fresh"
        )
    run.runs.set_stage(run.name, name, result)
    run.forget_checkpoint(name)
    return result, True
