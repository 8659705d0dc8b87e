"""The database: trials and runs in SQLAlchemy tables, and Optuna's storage over them. Control plane: no torch here."""

from typing import TYPE_CHECKING

from glorasearch.lazy import lazy_names

if TYPE_CHECKING:
    from glorasearch.db.database import Database
    from glorasearch.db.engine import read_url, sqlite_url
    from glorasearch.db.forecasts import ForecastStore
    from glorasearch.db.leases import Lease, Leases
    from glorasearch.db.notes import NoteStore, RunNote
    from glorasearch.db.process_identity import ProcessIdentity
    from glorasearch.db.progress import StageProgress, StageState
    from glorasearch.db.race_members import RaceMember, RaceStore
    from glorasearch.db.runs import Metric, RunRecord, RunState, RunStore
    from glorasearch.db.summarising_storage import SummarisingStorage
    from glorasearch.db.trial_storage import TrialStorage
    from glorasearch.db.worker_table import WorkerRecord, WorkerStore

__all__ = [
    "Database",
    "ForecastStore",
    "Lease",
    "Leases",
    "Metric",
    "NoteStore",
    "ProcessIdentity",
    "RaceMember",
    "RaceStore",
    "RunNote",
    "RunRecord",
    "RunState",
    "RunStore",
    "StageProgress",
    "StageState",
    "SummarisingStorage",
    "TrialStorage",
    "WorkerRecord",
    "WorkerStore",
    "read_url",
    "sqlite_url",
]

__getattr__ = lazy_names(
    __name__,
    {
        "database": ("Database",),
        "engine": ("read_url", "sqlite_url"),
        "forecasts": ("ForecastStore",),
        "leases": ("Lease", "Leases"),
        "notes": ("NoteStore", "RunNote"),
        "process_identity": ("ProcessIdentity",),
        "progress": ("StageProgress", "StageState"),
        "race_members": ("RaceMember", "RaceStore"),
        "runs": ("Metric", "RunRecord", "RunState", "RunStore"),
        "summarising_storage": ("SummarisingStorage",),
        "trial_storage": ("TrialStorage",),
        "worker_table": ("WorkerRecord", "WorkerStore"),
    },
)
