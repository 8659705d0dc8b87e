"""The result of the race, and the pick: what is refitted and exported."""

from __future__ import annotations

from typing import Any

from glorasearch.race import OWN_SPACE, Judge, Kind, Start
from glorasearch.runs.stage_result import FrozenModel, StageResult, SubnetField
from glorasearch.space import fitness_name


class RungScore(FrozenModel):
    """A candidate's score out of fold, over the folds that it had been judged on after a rung."""

    rung: int
    folds: int
    images: int
    accuracy: float | None
    """None of numbers, which are neither right nor wrong."""
    tempered: float | None
    """Mean cross-entropy at its best temperature, nats; None if a training diverged, and of numbers."""
    beta: float | None
    """The inverse of that temperature."""
    judged: float | None = None
    """What judges the race, if that is neither of them; None if a training diverged."""

    @property
    def diverged(self) -> bool:
        """Whether a training diverged."""
        return self.tempered is None and self.judged is None

    def said(self, judge: Judge) -> str:
        """In words, by what judges the race; accuracy where a temperature does."""
        if judge in ("accuracy", "tempered"):
            return f"{100 * (self.accuracy or 0.0):.1f} %"
        return f"{fitness_name(judge)} {'of no model' if self.judged is None else f'{self.judged:.3f}'}"

    def ahead(self, other: RungScore, judge: Judge) -> str:
        """By how much another one is apart from it, with its sign."""
        if judge in ("accuracy", "tempered"):
            return f"{100 * ((other.accuracy or 0.0) - (self.accuracy or 0.0)):+.1f} points"
        return "not comparable" if None in (self.judged, other.judged) else f"{_gap(self, other):+.3f}"


def _gap(one: RungScore, other: RungScore) -> float:
    return (other.judged or 0.0) - (one.judged or 0.0)


class _Named(FrozenModel):
    """What a candidate is called."""

    name: str
    """Such as `lora_r8`, or `trial 17`."""
    kind: Kind
    """`method`, `named` or `searched`."""
    space_key: str
    """Key of its search space: `space` is the run's own, `race.methods.<name>` that of a fixed method."""
    parameters: int
    """Trainable parameters, the head excluded."""
    rate: float | None
    """Peak learning rate of the low-rank factors; None: as `[refit]` says, since there was no race."""
    start: Start | None
    """Weights to start from, likewise."""

    @property
    def own_space(self) -> bool:
        """Whether it is of the run's own search space."""
        return self.space_key == OWN_SPACE

    @property
    def label(self) -> str:
        """Such as `lora_r8 at 0.003`."""
        text = self.name if self.rate is None else f"{self.name} at {self.rate:g}"
        return f"{text}, inherited" if self.start == "inherited" else text


class Pick(_Named):
    """What is refitted and exported: a subnet of one of the run's search spaces, and how it is to be trained."""

    subnet: SubnetField
    digest: str
    """Digest of the subnet."""
    stored: int
    """Numbers stored in the adapters."""


class RaceRow(_Named):
    """A candidate, and how it did."""

    scores: tuple[RungScore, ...]
    """After each rung that it reached."""
    steps: int
    """Optimiser steps of all its trainings."""
    seconds: float

    @property
    def last(self) -> RungScore:
        """Its score over all folds that it was judged on."""
        return self.scores[-1]


class RaceCandidate(RaceRow):
    """A candidate with its subnet."""

    subnet: SubnetField
    digest: str
    stored: int


class TakenOver(FrozenModel):
    """Trainings of a race that other runs had done."""

    trainings: int
    seconds: float
    """That they had cost there."""
    runs: tuple[str, ...]
    """These runs' names."""


class RaceSummary(FrozenModel):
    """A race: what it cost, who won, and who was the best of either kind."""

    judge: Judge
    folds: int
    steps: int
    """Optimiser steps of all trainings together."""
    trainings: int
    seconds: float
    """Of all trainings together; those of a stack share its seconds."""
    taken_over: TakenOver | None = None
    """What of that other runs had done."""
    left_out: dict[str, str]
    """Fixed method -> why it did not take part."""
    search_only: bool = False
    """Whether only images of the search split judged, by which the search had chosen the finalists."""
    copies_apart: int = 0
    """Images of train + search that have a copy in another fold, in a race of an earlier version: models were judged on
    images that they knew. Now an image and its copies are in one fold."""
    candidates: tuple[RaceRow, ...]
    """The best first; those that were judged on all folds come before the others."""

    @property
    def winner(self) -> RaceRow:
        """The best of all."""
        return self.candidates[0]

    def best(self, kind: Kind) -> RaceRow | None:
        """The best candidate of a kind; None if none took part."""
        return next((candidate for candidate in self.candidates if candidate.kind == kind), None)

    @property
    def best_own(self) -> RaceRow | None:
        """The best of the run's own space, which the search or a named point gave; None for a fixed method's run."""
        return next((candidate for candidate in self.candidates if candidate.kind != "method"), None)

    @property
    def rival(self) -> RaceRow | None:
        """What the winner is compared with: the best fixed method, or the best of the own space if it is one itself."""
        return self.best_own if self.winner.kind == "method" else self.best("method")

    def verdict(self) -> str:
        """Who won, and by how much, in a sentence."""
        first = self.winner
        text = f"{first.label} won the race with {first.last.said(self.judge)} out of fold"
        other = self.rival
        if other is None:
            return text
        what = "best fixed method" if other.kind == "method" else "best subnet of the run's own space"
        same = other.last.folds == first.last.folds
        ours, theirs = first.scores[len(other.scores) - 1], other.last  # on the same images
        fewer = "" if same else f", judged on {folds_text(theirs.folds)}"
        return f"{text}; the {what}, {other.label}, is {ours.ahead(theirs, self.judge)} from it{fewer}"


def folds_text(count: int) -> str:
    """`1 fold`, `2 folds`."""
    return f"{count} fold{'' if count == 1 else 's'}"


class RaceResult(RaceSummary, StageResult, stage="race"):
    """The ranking of the finalists and fixed methods, each trained alone."""

    candidates: tuple[RaceCandidate, ...]
    split: str
    """Digest of train + search."""

    @property
    def pick(self) -> Pick:
        """The best of all, to be refitted."""
        return Pick.of(self.candidates[0])

    @property
    def best_fixed(self) -> RaceCandidate | None:
        """The best fixed method; None if none took part."""
        return next((candidate for candidate in self.candidates if candidate.kind == "method"), None)

    def _main(self, score: RungScore) -> float | None:
        return score.accuracy if self.judge in ("accuracy", "tempered") else score.judged

    def brief(self) -> dict[str, Any]:
        """The race in a few numbers, for tables and dashboards."""
        return {
            "winner": self.winner.label,
            "kind": self.winner.kind,
            "accuracy": self.winner.last.accuracy,
            "tempered": self.winner.last.tempered,
            **({} if self.winner.last.judged is None else {self.judge: self.winner.last.judged}),
            "candidates": len(self.candidates),
            "trainings": self.trainings,
            "steps": self.steps,
            "seconds": self.seconds,
            "ranking": {candidate.label: self._main(candidate.last) for candidate in self.candidates[:8]},
        }
