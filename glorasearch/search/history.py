"""What the driver remembers of its study, so that it need not query the database again for every trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from optuna.trial import FrozenTrial

from glorasearch.search.study import Genome
from glorasearch.search.trials import REASON, SUBNET, RunningTrial, TrialRecord, has_score, rank
from glorasearch.space import Fitness


class TrialHistory:
    """The trials of a study by their state: scores of the finished ones, subnets of the running ones.

    Some 700 bytes a finished trial, whatever the number of genes.
    """

    def __init__(self, fitness: Fitness) -> None:
        self._fitness: Fitness = fitness
        self.records: dict[int, TrialRecord] = {}
        """Trial number → record, of every trial that has its score."""
        self.failures: dict[int, str] = {}
        """Trial number → why it failed."""
        self.running: dict[int, RunningTrial] = {}
        self.unsampled: dict[int, FrozenTrial] = {}
        """Trials that were created, but whose subnet is not stored yet."""
        self.met: set[str] = set()
        """Digests of the subnets of all trials."""
        self.listeners: list[Callable[[TrialRecord], None]] = []
        """Called with every trial that gets its score."""
        self.best: TrialRecord | None = None
        self.reused = 0
        self.stopped_early = 0
        """Evaluated trials that were stopped early."""
        self._evaluated: dict[str, TrialRecord] = {}

    def load(self, trials: Iterable[FrozenTrial], genome: Genome) -> None:
        """Add what the study holds; finished trials need not have their parameters."""
        for trial in trials:
            attrs = trial.user_attrs
            if has_score(trial):
                self.met.add(attrs[SUBNET])
                self.add(TrialRecord.from_attrs(trial.number, attrs))
            elif trial.state.is_finished():
                self.met.add(attrs.get(SUBNET, ""))
                self.failures[trial.number] = str(attrs.get(REASON, "unknown"))
            elif SUBNET in attrs:
                subnet = genome.subnet(trial.params)
                self.start(RunningTrial.from_attrs(trial.number, subnet, attrs, trial._trial_id))
            else:
                self.unsampled[trial.number] = trial

    def start(self, trial: RunningTrial) -> None:
        """Add a trial that is stored with its subnet."""
        self.unsampled.pop(trial.number, None)
        self.met.add(trial.subnet.digest)
        self.running[trial.number] = trial

    def add(self, record: TrialRecord) -> None:
        """Add a trial that has its score."""
        self.running.pop(record.number, None)
        self.records[record.number] = record
        if record.reused_from is None:
            self._evaluated[record.subnet_digest] = record
            self.stopped_early += record.score.stopped_early
        else:
            self.reused += 1
        for listener in self.listeners:
            listener(record)
        if record.score.stopped_early:
            return
        if self.best is None or rank(self._fitness, record) < rank(self._fitness, self.best):
            self.best = record

    def fail(self, number: int, reason: str) -> None:
        """Add a trial that failed."""
        self.running.pop(number, None)
        self.failures[number] = reason

    def sampled(self, number: int) -> bool:
        """Whether a trial has its subnet."""
        return number in self.records or number in self.running or number in self.failures

    @property
    def evaluations(self) -> int:
        """Trials that were evaluated rather than reused, stopped ones included."""
        return len(self.records) - self.reused

    @property
    def images_share(self) -> float:
        """Images scored, as a share of those that evaluating every trial to the end would have scored."""
        scores = [record.score for record in self._evaluated.values()]
        return sum(score.seen for score in scores) / max(1, sum(score.total for score in scores))

    def evaluated(self, digest: str) -> TrialRecord | None:
        """The trial that evaluated this subnet, if any; it may have been stopped early."""
        return self._evaluated.get(digest)

    def starts_of(self, record: TrialRecord) -> tuple[str, ...]:
        """The names of what the search started from, as far as a trial is that or descends from it."""
        found: dict[int, TrialRecord] = {}
        waiting = [record]
        while waiting:
            known = waiting.pop()
            if known.number not in found:
                found[known.number] = known
                waiting += [self.records[parent] for parent in known.parents]
        names = (found[number].start for number in sorted(found))
        return tuple(name for name in names if name is not None)

    def commonest_reason(self) -> str:
        """The reason that most failed trials give, and how many do."""
        if not self.failures:
            return "none is known"
        reason, count = Counter(self.failures.values()).most_common(1)[0]
        return f"{reason} ({count} of {len(self.failures)} failures)"
