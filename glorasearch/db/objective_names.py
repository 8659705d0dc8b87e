"""What the objectives of a study are called where people read them: short, with their unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

METRIC_NAMES: Final = "study:metric_names"
"""Optuna's system attribute of a study."""
_IN_WORDS: Final = {
    "tempered": "tempered cross-entropy, nats",
    "cross_entropy": "cross-entropy, nats",
    "accuracy": "accuracy, 0 to 1",
    "balanced_accuracy": "balanced accuracy, 0 to 1",
    "macro_f1": "macro F1, 0 to 1",
    "auc": "AUC, 0 to 1",
    "squared_error": "squared error, variances",
    "parameters": "trainable parameters",
    "bytes": "bytes of the adapter",
    "latency": "unmerged latency, ms",
    "training_flops": "training FLOPs, an image",
}
_DEFAULT: Final = ["accuracy", "parameters"]
"""What a search of several objectives has that names none."""


def objective_names(user_attrs: Mapping[str, Any], objectives: int) -> list[str] | None:
    """The names of a study's objectives by what it says of its search; None if it says nothing of so many."""
    search = user_attrs.get("search")
    if not isinstance(search, Mapping):
        return None
    found = search.get("objectives", _DEFAULT) if objectives > 1 else [search.get("fitness")]
    names = [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
    return [objective_in_words(name) for name in names] if len(names) == objectives else None


def objective_in_words(name: str) -> str:
    """An objective of a run file as it stands on an axis; one that is not known, by its name."""
    return _IN_WORDS.get(name, name)
