"""The kinds of tasks and their words, without torch: run files and tables need no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from glorasearch.statistics import LABEL_METRICS, METRICS, Metric

TaskKind = Literal["classify", "multilabel"]
"""What is asked of an image: `classify`, which one of the classes; `multilabel`, which of the labels."""


@dataclass(frozen=True, slots=True)
class Words:
    """How a task is spoken of."""

    output: str
    """What an output stands for, in the singular."""
    outputs: str
    accuracy: str
    """What `accuracy` is the share of."""
    metrics: tuple[Metric, ...]
    """That can be measured."""


WORDS: Final[dict[TaskKind, Words]] = {
    "classify": Words("class", "classes", "accuracy", METRICS),
    "multilabel": Words("label", "labels", "subset accuracy (all labels of an image right)", LABEL_METRICS),
}


def words_of(kind: str) -> Words:
    """The words of a task, which a report of another version may not know: then those of classes."""
    return next((words for name, words in WORDS.items() if name == kind), WORDS["classify"])
