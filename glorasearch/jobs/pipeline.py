"""All stages of a run in order, each once: a finished one is not done again, a broken one goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from glorasearch.errors import RunFileError
from glorasearch.jobs.baselines import baseline, baseline_space
from glorasearch.jobs.export import export
from glorasearch.jobs.job import Job
from glorasearch.jobs.refit import refit
from glorasearch.jobs.report import report
from glorasearch.jobs.search import search, search_config
from glorasearch.jobs.test_split import measure
from glorasearch.jobs.train import train

Result = Mapping[str, Any]
Stage = Callable[[Job], Result]

STAGES: dict[str, Stage] = {"train": train, "search": search, "refit": refit, "export": export}
"""The stages that have a command of their own."""


def run_stages(job: Job, only: str | None = None) -> Result:
    """Run all stages of a run, or one; returns the result of the last one.

    Everything that can be checked is checked before the first stage starts. The process owns the run meanwhile.

    Raises:
        InputError: if the run cannot work as it is described.
        RunLockedError: if another live process is at this run.
        JobError: if a stage fails; what finished before it is kept.
    """
    stages = _plan(job) if only is None else {only: STAGES[only]}
    job.check()
    search_config(job)
    for name in job.run_file.report.baselines:
        baseline_space(name)
    _open_run(job)
    result: Result = {}
    with job.runs.lock(job.name):
        job.runs.set_state(job.name, "running")
        try:
            for name, stage in stages.items():
                result = _once(job, name, stage)
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            job.runs.set_state(job.name, "stopped" if stopped else "failed", error=f"{type(error).__name__}: {error}")
            raise
        job.runs.set_state(job.name, "finished" if only is None else "stopped")
    return result


def _plan(job: Job) -> dict[str, Stage]:
    """The stages of a whole run; the export comes after the test, so that the model card can give its result."""
    baselines = {
        f"baseline:{name}": (lambda job, name=name: baseline(job, name)) for name in job.run_file.report.baselines
    }
    return {"train": train, "search": search, "refit": refit, **baselines, "test": measure, "export": export} | {
        "report": report
    }


def _once(job: Job, name: str, stage: Stage) -> Result:
    known = job.result(name)
    if known is not None:
        return known
    result = stage(job)
    job.runs.set_stage(job.name, name, result)
    job.forget_checkpoint(name)
    return result


def _open_run(job: Job) -> None:
    """Make the run in the database, or check that the one of that name was asked for the same."""
    config, digest = job.run_file.model_dump(mode="json"), job.run_file.digest()
    known = job.runs.get(job.name)
    if known is None:
        job.runs.create(job.name, config, digest)
        return
    if known.digest == digest:
        return
    differences = ", ".join(_differences(known.config, config)) or "defaults that changed with the version"
    raise RunFileError(
        f"run {job.name!r} was started with another configuration ({differences}); "
        "give this one another name by --set name=<name>, or start over by --fresh"
    )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before!r} then, {after!r} now")
    return found
