"""Trainings of a race that another run of the workspace has done already: fixed methods at most rates, for a start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from glorasearch.adapters import frozen_tensors
from glorasearch.db import RaceMember, RaceStore
from glorasearch.identity import digest, identity
from glorasearch.race import OF_CLASSES, Training
from glorasearch.runs.race_stacks import MemberSpec
from glorasearch.runs.results import TakenOver, TrainResult
from glorasearch.runs.session import Session, versions
from glorasearch.weights import tensor_digest


class EarlierRaces:
    """Tells what a training depends on, and which ones other runs have done.

    Args:
        session: of the run that races.
        store: of its database.
        device: where this run trains.
    """

    def __init__(self, session: Session, store: RaceStore, device: str) -> None:
        self._session, self._store, self._device = session, store, device

    def key(self, training: Training, spec: MemberSpec) -> str:
        """Digest of all that the weights and the score of a training depend on, but for rounding in its stack."""
        content: dict[str, Any] = {
            "common": self._common,
            "candidate": training.candidate.key,
            "fold": training.fold,
            "config": identity(spec.config),
            "start": self._session.require(TrainResult).weights if spec.inherited else None,
        }
        if self._session.config.race.judge in OF_CLASSES:
            content["judge"] = self._session.config.race.judge  # other races do not record what it is made of
        if spec.space.plugins:
            content["plugins"] = self._session.plugins_of(spec.space)
        return digest(content)

    def find(self, wanted: Mapping[Training, str], rung: int) -> list[RaceMember]:
        """Those that other runs have done, as members of this one; none for a run that starts over.

        Args:
            wanted: trainings and their keys.
            rung: of this run's race.
        """
        if self._session.fresh or not wanted:
            return []
        found = self._store.trained_elsewhere(self._session.name, set(wanted.values()))
        return [
            replace(member, candidate=one.candidate.key, label=one.candidate.label, rung=rung, from_run=name)
            for one, (name, member) in ((one, found[key]) for one, key in wanted.items() if key in found)
        ]

    @cached_property
    def _common(self) -> dict[str, Any]:
        session, config = self._session, self._session.config
        split = session.data.train_and_search()
        common = {
            "backbone": tensor_digest(frozen_tensors(session.backbone)),
            "split": split.digest,
            "search": len(session.data.search) if "inherited" in config.race.starts else None,
            "folds": config.race.folds,
            "seed": config.seed,
            "threads": config.threads,
            "device": self._device,
            "versions": versions(),
        }
        if len(set(split.first_equals())) < len(split):
            common["copies"] = "in one fold"  # where earlier versions raced, they were in several
        return common


def taken_over(members: Iterable[RaceMember]) -> TakenOver | None:
    """What of these was taken over from other runs; None if nothing was."""
    found = [(member.from_run, member.seconds) for member in members if member.from_run is not None]
    if not found:
        return None
    return TakenOver(
        trainings=len(found),
        seconds=sum(seconds for _, seconds in found),
        runs=tuple(sorted({name for name, _ in found})),
    )
