"""The tables, as SQLAlchemy models. A change here needs a migration in `migrations/versions`."""

from __future__ import annotations

from datetime import datetime
from types import NoneType
from typing import Any, Final, cast

from sqlalchemy import ForeignKey, MetaData, Table, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from glorasearch.db.columns import JsonDocument, JsonText, LocalDateTime, Name, Note, Real, UtcDateTime, Whole, Word

PREFIX: Final = "glorasearch_"
"""Of every table, so that other programs, such as Optuna's own storage, may use the same database."""

_NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base of all models; its metadata names every constraint, so that migrations can refer to them."""

    metadata = MetaData(naming_convention=_NAMING)


def table_of(model: type[Base]) -> Table:
    """The table of a model, for statements that need no objects."""
    return cast(Table, model.__table__)


class StudyRow(Base):
    """One search. Ids are never reused, not even those of deleted studies (Optuna requires it)."""

    __tablename__ = PREFIX + "studies"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Name(512))
    directions: Mapped[list[str]] = mapped_column(JsonText(list))
    """`minimize` or `maximize` for every objective."""
    trial_count: Mapped[int] = mapped_column(Whole, default=0)
    """Number of the next trial. Raised in the transaction that inserts the trial, so numbers have no gaps."""


class StudyAttributeRow(Base):
    """One attribute of a study: a row each, so that writers of different keys do not conflict."""

    __tablename__ = PREFIX + "study_attributes"

    study_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "studies.id", ondelete="CASCADE"), primary_key=True)
    scope: Mapped[str] = mapped_column(Word(8, "user", "system"), primary_key=True)
    """`user` or `system`."""
    key: Mapped[str] = mapped_column(Name(512), primary_key=True)
    value: Mapped[Any] = mapped_column(JsonText)


class DistributionRow(Base):
    """What a parameter of a study was drawn from; stored once per study, not per trial."""

    __tablename__ = PREFIX + "distributions"

    study_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "studies.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Name(512), primary_key=True)
    version: Mapped[int] = mapped_column(Whole, primary_key=True)
    """0 for the first; Optuna lets the range of a number change between trials, which makes further versions."""
    distribution: Mapped[str] = mapped_column(JsonDocument)
    """As `optuna.distributions.distribution_to_json` writes it."""


class TrialRow(Base):
    """One evaluated subnet, with all its parameters in one column."""

    __tablename__ = PREFIX + "trials"
    __table_args__ = (UniqueConstraint("study_id", "number"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "studies.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Whole)
    revision: Mapped[int] = mapped_column(Whole)
    """Raised by every write; a write names the revision that it read, so no write is lost."""
    state: Mapped[str] = mapped_column(Word(16, "running", "waiting", "complete", "pruned", "fail"))
    started: Mapped[datetime | None] = mapped_column(LocalDateTime)
    """In UTC; read as local time without a zone, as in Optuna. So is `finished`."""
    finished: Mapped[datetime | None] = mapped_column(LocalDateTime)
    objectives: Mapped[list[float] | None] = mapped_column(JsonText(list, NoneType))
    """The values of the objectives."""
    user_attrs: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))
    system_attrs: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))
    intermediate: Mapped[list[tuple[int, float]]] = mapped_column(JsonText(list))
    """(step, value) of every reported intermediate value."""
    params: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))
    """Name → internal value, or [internal value, version of the distribution] where the version is not 0."""


class RunRow(Base):
    """One supernet training and what follows from it."""

    __tablename__ = PREFIX + "runs"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Name(255))
    config: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))
    digest: Mapped[str] = mapped_column(Name(64))
    """Digest of the configuration."""
    state: Mapped[str] = mapped_column(Word(16, "created", "running", "finished", "stopped", "failed", "interrupted"))
    """A value of `RunState`."""
    error: Mapped[str | None] = mapped_column(Note)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    updated: Mapped[datetime] = mapped_column(UtcDateTime)


class StageRow(Base):
    """The result of one finished stage of a run."""

    __tablename__ = PREFIX + "stages"

    run_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "runs.id", ondelete="CASCADE"), primary_key=True)
    stage: Mapped[str] = mapped_column(Name(64), primary_key=True)
    result: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))
    finished: Mapped[datetime] = mapped_column(UtcDateTime)


class MetricRow(Base):
    """One number that a stage measured at one step."""

    __tablename__ = PREFIX + "metrics"

    run_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "runs.id", ondelete="CASCADE"), primary_key=True)
    stage: Mapped[str] = mapped_column(Name(64), primary_key=True)
    step: Mapped[int] = mapped_column(Whole, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Name(255), primary_key=True)
    value: Mapped[float] = mapped_column(Real, nullable=True)


class ProgressRow(Base):
    """How far one stage of a run is, or a part of one."""

    __tablename__ = PREFIX + "progress"

    run_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "runs.id", ondelete="CASCADE"), primary_key=True)
    stage: Mapped[str] = mapped_column(Name(64), primary_key=True)
    state: Mapped[str] = mapped_column(Word(16, "running", "finished", "stopped", "failed"))
    """A value of `StageState`."""
    started: Mapped[datetime] = mapped_column(UtcDateTime)
    updated: Mapped[datetime] = mapped_column(UtcDateTime)
    title: Mapped[str] = mapped_column(Note)
    note: Mapped[str] = mapped_column(Note)
    done: Mapped[int] = mapped_column(Whole)
    total: Mapped[int] = mapped_column(Whole)
    first_done: Mapped[int] = mapped_column(Whole)
    first_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class WorkerRow(Base):
    """One worker of a run's search."""

    __tablename__ = PREFIX + "workers"

    run_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "runs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Whole, primary_key=True, autoincrement=False)
    host: Mapped[str] = mapped_column(Name(255))
    process: Mapped[int] = mapped_column(Whole)
    ready: Mapped[int] = mapped_column(Whole)
    """1 if it takes tasks, else 0."""
    tasks: Mapped[int] = mapped_column(Whole)
    busy: Mapped[float] = mapped_column(Real)
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    updated: Mapped[datetime] = mapped_column(UtcDateTime)


class ForecastRow(Base):
    """How long one stage of a run takes, at most."""

    __tablename__ = PREFIX + "forecasts"

    run_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "runs.id", ondelete="CASCADE"), primary_key=True)
    stage: Mapped[str] = mapped_column(Name(64), primary_key=True)
    seconds: Mapped[float] = mapped_column(Real)


class NoteRow(Base):
    """What a person has noted of a run."""

    __tablename__ = PREFIX + "notes"

    run_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "runs.id", ondelete="CASCADE"), primary_key=True)
    text: Mapped[str] = mapped_column(Note)
    """Empty once the note was deleted: its versions go on."""
    version: Mapped[int] = mapped_column(Whole)
    """Raised by every write."""
    changed: Mapped[datetime] = mapped_column(UtcDateTime)


class RaceMemberRow(Base):
    """One model that was trained in a run's race, and its sums over the fold that it had not seen."""

    __tablename__ = PREFIX + "race_members"

    run_id: Mapped[int] = mapped_column(ForeignKey(PREFIX + "runs.id", ondelete="CASCADE"), primary_key=True)
    candidate: Mapped[str] = mapped_column(Name(64), primary_key=True)
    """Digest of subnet, rate and start."""
    fold: Mapped[int] = mapped_column(Whole, primary_key=True, autoincrement=False)
    label: Mapped[str] = mapped_column(Note)
    rung: Mapped[int] = mapped_column(Whole)
    images: Mapped[int] = mapped_column(Whole)
    correct: Mapped[int] = mapped_column(Whole)
    nats: Mapped[list[float] | None] = mapped_column(JsonText(list, NoneType))
    """Sum of the cross-entropies at every inverse temperature of the grid; JSON's null if the training diverged."""
    steps: Mapped[int] = mapped_column(Whole)
    seconds: Mapped[float] = mapped_column(Real)
    training: Mapped[str | None] = mapped_column(Name(64), index=True)
    """Digest of all that the training depends on."""
    from_run: Mapped[str | None] = mapped_column(Note)
    """Another run that did it."""
    judged: Mapped[dict[str, Any] | None] = mapped_column(JsonText(dict, NoneType))
    """What metrics that take classes alike are made of; JSON's null unless one judges the race."""


class LeaseRow(Base):
    """Exclusive ownership of a run or study by one process, kept alive by its heartbeats."""

    __tablename__ = PREFIX + "leases"

    name: Mapped[str] = mapped_column(Name(600), primary_key=True)
    """`run:<name>` or `study:<name>`."""
    token: Mapped[str] = mapped_column(Name(32))
    """The fencing token: new whenever the lease is taken."""
    host: Mapped[str] = mapped_column(Name(255))
    """The process: its host, process id and start."""
    pid: Mapped[int] = mapped_column(Whole)
    started: Mapped[str] = mapped_column(Name(255))
    seconds: Mapped[float] = mapped_column(Real)
    """Without a heartbeat for this long, the process is gone."""
    beats: Mapped[int] = mapped_column(Whole)
    """Heartbeats since it was taken."""
    renewed: Mapped[float] = mapped_column(Real)
    """Time of the last heartbeat, seconds since 1970 by the database's clock."""


class ReceiptRow(Base):
    """The last transaction of one connection to a server, in case the answer to its COMMIT is lost."""

    __tablename__ = PREFIX + "receipts"

    connection: Mapped[str] = mapped_column(Name(32), primary_key=True)
    number: Mapped[int]
    written: Mapped[datetime]
    """By the database's clock."""
