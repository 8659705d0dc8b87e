"""The database: trials and runs in SQLAlchemy tables, and Optuna's storage over them. Control plane: no torch here."""

from glorasearch.db.database import Database
from glorasearch.db.evaluations import Evaluation
from glorasearch.db.trial_storage import TrialStorage

__all__ = ["Database", "Evaluation", "TrialStorage"]
