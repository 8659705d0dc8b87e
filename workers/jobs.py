"""Runs as jobs of a Ray cluster, through Ray Jobs: submitted, followed, found by run name, stopped."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from glorasearch.errors import InputError, RunError, RunLockedError, RunNotFoundError
from glorasearch.redact import conceal, redact_url
from workers.job_address import explicit_address, reach

RUN_KEY: Final = "glorasearch_run"
"""Key of a job's metadata that holds the name of its run."""
LOST_SECONDS: Final = 120.0
"""How long a job that is followed may be unreachable."""
END_SECONDS: Final = 90.0
"""How long a stopped job may take to end: longer than it has between SIGTERM and SIGKILL."""
POLL_SECONDS: Final = 0.25
_NOISY_LOGGERS: Final = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
ENDED: Final = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """One job of a run, as the cluster reports it."""

    run: str
    id: str
    """Ray's submission id."""
    state: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    message: str
    """Why it is in that state, in Ray's words."""
    entrypoint: str
    started: datetime | None
    ended: datetime | None
    metadata: Mapping[str, str]

    @property
    def live(self) -> bool:
        """Whether it is pending or running."""
        return self.state not in ENDED

    @property
    def seconds(self) -> float | None:
        """How long it has been running, or ran."""
        if self.started is None:
            return None
        return ((self.ended or datetime.now(UTC)) - self.started).total_seconds()


class RunJobs:
    """The jobs of runs on one Ray cluster.

    Args:
        address: of the dashboard on the head node, `http://head:8265`; it takes precedence over RAY_ADDRESS.

    Raises:
        InputError: if the address is not that of a dashboard, or Ray is not installed here.
        RunError: if nothing answers there, or something other than a recent Ray.
    """

    def __init__(self, address: str) -> None:
        conceal(address)
        self.address, headers = reach(address)
        try:
            from ray.job_submission import JobSubmissionClient
        except ImportError as error:
            raise InputError(
                f"jobs are submitted through Ray, which cannot be imported ({error}); pip install 'glorasearch[ray]'"
            ) from error
        for name in _NOISY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        with explicit_address():
            self._client: Any = self._call("open its job API", JobSubmissionClient, self.address, headers=headers)

    def submit(
        self,
        run: str,
        entrypoint: str,
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        cpus: float = 0.0,
        gpus: float = 0.0,
    ) -> JobRecord:
        """Submit a run; `folder` becomes the working directory of the job and all its workers.

        Args:
            run: its name, by which it is found again.
            entrypoint: the command, for a shell.
            folder: what is uploaded with it.
            environment: environment variables of the job and its workers.
            metadata: further metadata of the job.
            cpus: reserved for the command's own process.
            gpus: likewise; with either, the command may run on a node other than the head.

        Raises:
            RunLockedError: if a job of this run is pending or running.
            RunError: if the cluster rejects it.
        """
        live = [job for job in self.of_run(run) if job.live]
        if live:
            raise RunLockedError(
                f"run {run!r} is being worked on by job {live[-1].id} ({live[-1].state.lower()}); follow it by "
                f"{self.command('status', run)} --follow, or stop it by {self.command('stop', run)}"
            )
        number = self._call(
            "submit a job",
            self._client.submit_job,
            entrypoint=entrypoint,
            submission_id=_submission_id(run),
            runtime_env={"working_dir": str(folder), "env_vars": dict(environment or {})},
            metadata={RUN_KEY: run, **(metadata or {})},
            entrypoint_num_cpus=cpus or None,
            entrypoint_num_gpus=gpus or None,
        )
        return self._get(number)

    def all(self) -> list[JobRecord]:
        """The jobs of all runs, oldest first."""
        found = self._call("list its jobs", self._client.list_jobs)
        jobs = [_record(job) for job in found if job.submission_id and RUN_KEY in (job.metadata or {})]
        return sorted(jobs, key=lambda job: (job.started or datetime.max.replace(tzinfo=UTC), job.id))

    def of_run(self, run: str) -> list[JobRecord]:
        """The jobs of one run, oldest first."""
        return [job for job in self.all() if job.run == run]

    def latest(self, run: str) -> JobRecord:
        """The newest job of a run.

        Raises:
            RunNotFoundError: naming the runs that the cluster knows.
        """
        jobs = self.all()
        own = [job for job in jobs if job.run == run]
        if not own:
            known = ", ".join(dict.fromkeys(job.run for job in reversed(jobs)))
            raise RunNotFoundError(
                f"no job of run {run!r} on {redact_url(self.address)}; known are: {known or 'none'}. (A cluster "
                "forgets its jobs when its head node restarts; the run itself is in its database)"
            )
        return own[-1]

    def log(self, job: JobRecord) -> str:
        """What a job has written so far."""
        return str(self._call("read a job's log", self._client.get_job_logs, job.id))

    def follow(self, job: JobRecord, write: Callable[[str], None]) -> JobRecord:
        """Write a job's log, from its start, until the job has ended; returns how it ended.

        A broken connection is restored, and the log continues where it stopped.

        Raises:
            RunError: if the cluster is unreachable for `LOST_SECONDS`; the job may still be running.
        """
        tail = _Tail(write)
        lost_at: float | None = None
        while True:
            try:
                self._call("stream a job's log", asyncio.run, tail.read(self._client.tail_job_logs(job.id)))
                found = self._get(job.id)
            except RunError as error:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > LOST_SECONDS:
                    raise RunError(
                        f"job {job.id} has been unreachable for {LOST_SECONDS:.0f} s ({error}); it may still run: "
                        f"{self.command('status', job.run)} --follow"
                    ) from error
            else:
                lost_at = None
                if not found.live:
                    return found
            time.sleep(POLL_SECONDS)

    def stop(self, job: JobRecord) -> JobRecord:
        """Stop a job and wait until it has ended: SIGTERM, then SIGKILL if it does not end in time.

        Raises:
            RunError: if it does not end.
        """
        self._call("stop a job", self._client.stop_job, job.id)
        deadline = time.monotonic() + END_SECONDS
        while (found := self._get(job.id)).live:
            if time.monotonic() > deadline:
                raise RunError(
                    f"job {job.id} of run {job.run!r} is still {found.state.lower()} {END_SECONDS:.0f} s after it was "
                    f"asked to stop; see `ray job logs {job.id} --address {redact_url(self.address)}`"
                )
            time.sleep(POLL_SECONDS)
        return found

    def command(self, name: str, run: str) -> str:
        """A command line of glorasearch for a run of this cluster."""
        return f"glorasearch {name} {run} --address {redact_url(self.address)}"

    def _get(self, number: str) -> JobRecord:
        return _record(self._call("look for a job", self._client.get_job_info, number))

    def _call(self, what: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call Ray's client; what it raises becomes a `RunError` that says where, what and why."""
        try:
            return call(*arguments, **options)
        except (InputError, RunError):
            raise
        except Exception as error:  # from requests, aiohttp, Ray, or JSON that is not Ray's
            where = redact_url(self.address)
            raise RunError(f"the Ray cluster at {where} did not {what}: {_shortened(error)}") from error


@dataclass
class _Tail:
    """Reads a log from its start each time, and writes every part once."""

    write: Callable[[str], None]
    written: int = 0
    """Characters."""

    async def read(self, parts: AsyncIterator[str]) -> None:
        seen = 0
        async for text in parts:
            new = text[max(0, self.written - seen) :]
            seen += len(text)
            if new:
                self.write(new)
                self.written = seen


def _submission_id(run: str) -> str:
    return f"glorasearch-{run}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _record(job: Any) -> JobRecord:
    metadata = dict(job.metadata or {})
    return JobRecord(
        run=metadata.get(RUN_KEY, ""),
        id=str(job.submission_id),
        state=str(getattr(job.status, "value", job.status)),
        message=str(job.message or ""),
        entrypoint=job.entrypoint,
        started=_time(job.start_time),
        ended=_time(job.end_time),
        metadata=metadata,
    )


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def _shortened(error: Exception, most: int = 2000) -> str:
    """An error's message, without the tail of a long traceback."""
    text = f"{error}".strip() or type(error).__name__
    return text if len(text) <= most else f"{text[:most]} ..."
