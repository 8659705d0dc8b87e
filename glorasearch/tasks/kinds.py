"""The kinds of tasks and their words, without torch: run files and tables need no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from glorasearch.statistics import LABEL_METRICS, METRICS, NUMBER_METRICS, Metric

TaskKind = Literal["classify", "multilabel", "regress"]
"""What is asked of an image: `classify`, which one of the classes; `multilabel`, which of the labels; `regress`, one or
several numbers."""
BETWEEN: Final = "; "
"""Between the labels, or the numbers, of an image in a table."""


@dataclass(frozen=True, slots=True)
class Words:
    """How a task is spoken of."""

    output: str
    """What an output stands for, in the singular."""
    outputs: str
    accuracy: str
    """What `accuracy` is the share of; empty where nothing is right or wrong."""
    metrics: tuple[Metric, ...]
    """That can be measured."""
    because: str = ""
    """Why something does not fit the task."""

    @property
    def right_or_wrong(self) -> bool:
        """Whether what is said of an image is right or wrong."""
        return bool(self.accuracy)


WORDS: Final[dict[TaskKind, Words]] = {
    "classify": Words("class", "classes", "accuracy", METRICS),
    "multilabel": Words(
        "label",
        "labels",
        "subset accuracy (all labels of an image right)",
        LABEL_METRICS,
        'an image has any number of labels (data.task = "multilabel")',
    ),
    "regress": Words("target", "targets", "", NUMBER_METRICS, 'targets are numbers (data.task = "regress")'),
}


def words_of(kind: str) -> Words:
    """The words of a task, which a report of another version may not know: then those of classes."""
    return next((words for name, words in WORDS.items() if name == kind), WORDS["classify"])


def unclear(kind: str, names: Sequence[str]) -> str:
    """Which names of labels or targets tables could not tell apart, in a sentence; empty if they can all of them."""
    parting = [name for name in names if BETWEEN in name or name.endswith(BETWEEN.strip())]
    if kind == "multilabel" and parting:
        return f"label {parting[0]!r}: {BETWEEN!r} stands between the labels of an image in tables; rename it"
    doubled = [name for name in names if f"predicted {name}" in names]
    if kind == "regress" and doubled:
        return (
            f"targets {doubled[0]!r} and {f'predicted {doubled[0]}'!r}: in tables the latter is what is predicted of "
            "the former; rename one of them"
        )
    return ""
