"""The stage in which finalists and fixed methods race: each trained alone, and judged out of fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glorasearch.db import RaceMember, RaceStore, TrialStorage
from glorasearch.race import (
    OWN_SPACE,
    Candidate,
    Training,
    candidates_of,
    folds_of,
    member_seed,
    rank,
    ranking,
    rungs_of,
    stacks,
    standing_of,
    trainings_of,
)
from glorasearch.runs.curves.stored import rung_rows
from glorasearch.runs.earlier_races import EarlierRaces, taken_over
from glorasearch.runs.entrants import entrants, methods
from glorasearch.runs.fold_scores import fold_score, score_columns
from glorasearch.runs.progress import Advance
from glorasearch.runs.race_backends import race_backend
from glorasearch.runs.race_stacks import MemberSpec, StackOutcome
from glorasearch.runs.results.race import RaceCandidate, RaceResult, RungScore
from glorasearch.runs.session import Session
from glorasearch.runs.training import keep
from glorasearch.space.score import BETAS
from glorasearch.training import TrainingConfig, TrainingRecord


def race(session: Session) -> RaceResult:
    """Train and rank the candidates; trainings that are in the database are not repeated, whichever run did them.

    Raises:
        RunError: if a task on a cluster fails.
    """
    return _Race(session).run()


class _Race:
    """A race while it goes on."""

    def __init__(self, session: Session) -> None:
        self._session, self._config = session, session.config.race
        self._steps = self._config.training_steps(session.training.steps)
        self._store = RaceStore(session.stored.workspace.database)
        found = entrants(session)
        self._candidates = candidates_of(found, self._config.rates, self._config.starts)
        _, self._left_out = methods(session) if session.only_subnet is None else ([], {})
        self._members = {(member.candidate, member.fold): member for member in self._store.list(session.name)}
        self._scores = {place: fold_score(member) for place, member in self._members.items()}
        self._backend = race_backend(session)
        self._earlier = EarlierRaces(session, self._store, self._backend.device)
        self._lead = ""
        for name, why in self._left_out.items():
            session.progress.say(f"race: without {name}: {why}")
        kinds = {kind: sum(one.kind == kind for one in found) for kind in ("method", "named", "searched")}
        counts = f"{kinds['method']} fixed methods, {kinds['named']} named points, {kinds['searched']} finalists"
        session.progress.say(f"race: {counts}, {len(self._candidates)} candidates with their rates")

    def run(self) -> RaceResult:
        """All rungs."""
        config = self._config
        total = self._steps * config.trainings(len(self._candidates))
        with self._session.progress.task("race", total) as advance:
            for rung in rungs_of(config):
                self._rung(rung, advance)
                self._session.curves.add(rung_rows(self._members.values(), rung, self._config.judge))
            result = self._result()
            won = result.winner
            advance(total, f"{won.label} won with {won.last.said(config.judge)}")
        self._session.progress.say(result.verdict())
        storage = TrialStorage(self._session.stored.workspace.database)
        study_id = storage.get_study_id_from_name(self._session.name)
        storage.set_study_user_attr(study_id, "race", result.brief())
        return result

    def _rung(self, rung: int, advance: Advance) -> None:
        trainings = trainings_of(rung, self._candidates, self._scores, self._config, BETAS)
        specs = {training: self._spec(training) for training in trainings}
        keys = {training: self._earlier.key(training, spec) for training, spec in specs.items()}
        known = self._taken_over(rung, keys)
        own = [training for training in trainings if training not in known]
        every = dict(enumerate(self._stacks({training: specs[training] for training in own})))
        pending = {
            number: stack
            for number, stack in every.items()
            if any(training.place not in self._scores for training in stack)
        }
        before = self._steps * len(self._scores)
        advance(before, self._lead)
        steps: dict[int, int] = {}

        def show(number: int, step: int) -> None:
            steps[number] = step * len(every[number])
            advance(before + sum(steps.values()), self._lead)

        work = {number: tuple(specs[training] for training in stack) for number, stack in pending.items()}
        for number, outcome in self._backend.train(rung, work, show):
            self._record(rung, every[number], outcome, keys)

    def _stacks(self, specs: Mapping[Training, MemberSpec]) -> list[tuple[Training, ...]]:
        """Those of the run's own space apart where they take turns: in the step of its supernet, which is compiled."""
        own = [training for training in specs if training.candidate.entrant.space_key == OWN_SPACE]
        apart = stacks(own, self._config.stack or self._backend.turns(len(own)))
        turns = [stack for stack in apart if self._backend.takes_turns([specs[training] for training in stack])]
        taken = {training for stack in turns for training in stack}
        others = [training for training in specs if training not in taken]
        return [*turns, *stacks(others, self._backend.size([specs[training] for training in others]))]

    def _taken_over(self, rung: int, keys: Mapping[Training, str]) -> set[Training]:
        """The trainings of a rung that other runs have done: asked once, so that a race that goes on has its stacks."""
        if not any(training.place in self._scores for training in keys):
            found = self._earlier.find(keys, rung)
            self._keep(found)
            known = taken_over(found)
            if known is not None:
                self._session.progress.say(
                    f"race, rung {rung}: {known.trainings} of {len(keys)} trainings taken over from "
                    f"{', '.join(map(repr, known.runs))}"
                )
        return {one for one in keys if one.place in self._members and self._members[one.place].from_run is not None}

    def _spec(self, training: Training) -> MemberSpec:
        candidate, session = training.candidate, self._session
        return MemberSpec(
            space=session.stored.spaces[candidate.entrant.space_key],
            subnet=candidate.entrant.subnet.to_dict(),
            config=self._recipe(candidate).replace(seed=member_seed(session.config.seed, *training.place)),
            fold=training.fold,
            inherited=candidate.start == "inherited",
        )

    def _recipe(self, candidate: Candidate) -> TrainingConfig:
        """The run's recipe for one subnet, at the candidate's rate, with what its method wants."""
        config = self._session.training.for_one_subnet(steps=self._steps, lr=candidate.rate).replace(patience=0)
        return self._session.stored.spaces[candidate.entrant.space_key].recipe.apply(config)

    def _record(
        self, rung: int, stack: Sequence[Training], outcome: StackOutcome, keys: Mapping[Training, str]
    ) -> None:
        members = [
            RaceMember(
                candidate=training.candidate.key,
                fold=training.fold,
                label=training.candidate.label,
                rung=rung,
                **score_columns(score),
                steps=self._steps,
                seconds=outcome.seconds / len(stack),
                training=keys[training],
            )
            for training, score in zip(stack, outcome.scores, strict=True)
        ]
        self._keep(members)
        self._show_leader()

    def _keep(self, members: Sequence[RaceMember]) -> None:
        self._store.record(self._session.name, members)
        for member in members:
            place = member.candidate, member.fold
            self._members[place], self._scores[place] = member, fold_score(member)

    def _show_leader(self) -> None:
        """Of those that were judged on most folds so far; its accuracy is a metric, by the trainings that are done."""
        folds, judge = range(self._config.folds), self._config.judge
        found = {one: standing_of(one, self._scores, folds, BETAS, judge) for one in self._candidates}
        most = max(one.folds for one in found.values())
        best = rank({one: score for one, score in found.items() if score.folds == most}, judge)[0]
        score = RungScore.of(found[best], rung=0)
        self._lead = f"{best.label} leads with {score.said(judge)}"
        values = {f"best_{judge}": score.judged, "best_accuracy": score.accuracy, "folds": float(most)}
        known = {name: value for name, value in values.items() if value is not None}
        keep(self._session, RaceResult.stage, TrainingRecord(len(self._scores), known))

    def _result(self) -> RaceResult:
        found = [self._candidate(one) for one in ranking(self._candidates, self._scores, self._config, BETAS)]
        return RaceResult(
            judge=self._config.judge,
            folds=self._config.folds,
            steps=sum(candidate.steps for candidate in found),
            trainings=sum(candidate.steps for candidate in found) // self._steps,
            seconds=sum(candidate.seconds for candidate in found),
            taken_over=taken_over(self._members.values()),
            left_out=self._left_out,
            search_only="inherited" in self._config.starts,
            candidates=tuple(found),
            split=self._session.data.train_and_search().digest,
        )

    def _candidate(self, candidate: Candidate) -> RaceCandidate:
        folds = [fold for fold in range(self._config.folds) if (candidate.key, fold) in self._members]
        members = [self._members[candidate.key, fold] for fold in folds]
        reached = [rung for rung in rungs_of(self._config) if set(folds_of(rung, self._config)) & set(folds)]
        entrant = candidate.entrant
        return RaceCandidate(
            name=entrant.name,
            kind=entrant.kind,
            space_key=entrant.space_key,
            subnet=entrant.subnet,
            digest=entrant.subnet.digest,
            parameters=entrant.parameters,
            stored=entrant.space.stored(entrant.subnet),
            rate=candidate.rate,
            start=candidate.start,
            scores=tuple(self._rung_score(candidate, rung) for rung in reached),
            steps=sum(member.steps for member in members),
            seconds=sum(member.seconds for member in members),
        )

    def _rung_score(self, candidate: Candidate, rung: int) -> RungScore:
        """Over all folds up to those of the rung."""
        folds = range(folds_of(rung, self._config).stop)
        return RungScore.of(standing_of(candidate, self._scores, folds, BETAS, self._config.judge), rung=rung)
