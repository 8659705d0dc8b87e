"""What the driver remembers of its study, so that it need not ask the database again for every trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from glorasearch.search.fitness import Fitness, rank
from glorasearch.search.genome import Genome
from glorasearch.search.record import PARAMETERS, REASON, SUBNET, TrialRecord, is_stopped_early
from glorasearch.space import Subnet


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """A trial that has its subnet and waits for its scores."""

    number: int
    trial_id: int
    subnet: Subnet
    parameters: int

    @property
    def digest(self) -> str:
        """The subnet's digest."""
        return self.subnet.digest


class Ledger:
    """The trials of a study by what has become of them: scores of the finished ones, subnets of the running ones.

    Some 600 bytes a finished trial, whatever the number of genes.
    """

    def __init__(self, fitness: Fitness) -> None:
        self._fitness: Fitness = fitness
        self.records: dict[int, TrialRecord] = {}
        """Trial number → scores, of completed and of capped trials."""
        self.failures: dict[int, str] = {}
        """Trial number → why it failed."""
        self.running: dict[int, RunningTrial] = {}
        self.unsampled: dict[int, FrozenTrial] = {}
        """Trials that were created, but whose subnet was not stored before the search was cut off."""
        self.met: set[str] = set()
        """Digests of the subnets of all trials."""
        self.followers: list[Callable[[TrialRecord], None]] = []
        """Told of every trial that gets its scores."""
        self.best: TrialRecord | None = None
        self.reused = 0
        self.stopped_early = 0
        """Evaluated trials that were capped."""
        self._evaluated: dict[str, TrialRecord] = {}

    def load(self, trials: Iterable[FrozenTrial], genome: Genome) -> None:
        """Take in what the study holds; of finished trials the parameters are not needed."""
        for trial in trials:
            attrs = trial.user_attrs
            if trial.state == TrialState.COMPLETE or is_stopped_early(trial):
                self.met.add(attrs[SUBNET])
                self.add(TrialRecord.from_attrs(trial.number, attrs))
            elif trial.state.is_finished():
                self.met.add(attrs.get(SUBNET, ""))
                self.failures[trial.number] = str(attrs.get(REASON, "unknown"))
            elif SUBNET in attrs:
                subnet = genome.subnet(trial.params)
                self.start(RunningTrial(trial.number, trial._trial_id, subnet, int(attrs[PARAMETERS])))
            else:
                self.unsampled[trial.number] = trial

    def start(self, trial: RunningTrial) -> None:
        """Take in a trial that has got its subnet."""
        self.met.add(trial.digest)
        self.running[trial.number] = trial

    def add(self, record: TrialRecord) -> None:
        """Take in the scores of a trial."""
        self.running.pop(record.number, None)
        self.records[record.number] = record
        if record.reused_from is None:
            self._evaluated[record.subnet_digest] = record
            self.stopped_early += record.stopped_early
        else:
            self.reused += 1
        for follower in self.followers:
            follower(record)
        if record.stopped_early:
            return
        if self.best is None or rank(self._fitness, record) < rank(self._fitness, self.best):
            self.best = record

    def fail(self, number: int, reason: str) -> None:
        """Take in the failure of a trial."""
        self.running.pop(number, None)
        self.failures[number] = reason

    def sampled(self, number: int) -> bool:
        """Whether a trial has its subnet."""
        return number in self.records or number in self.running or number in self.failures

    @property
    def evaluations(self) -> int:
        """Trials that were evaluated, not reused; capped ones count."""
        return len(self.records) - self.reused

    @property
    def images_share(self) -> float:
        """Images scored, as a share of what evaluating every trial to its end would have scored."""
        evaluated = self._evaluated.values()
        return sum(record.seen for record in evaluated) / max(1, sum(record.total for record in evaluated))

    def evaluated(self, digest: str) -> TrialRecord | None:
        """The trial that evaluated this subnet, if any did; perhaps a capped one."""
        return self._evaluated.get(digest)

    def commonest_reason(self) -> str:
        """The reason that most failed trials give, and how many do."""
        if not self.failures:
            return "none is known"
        reason, count = Counter(self.failures.values()).most_common(1)[0]
        return f"{reason} ({count} of {len(self.failures)} failures)"

    def pareto_front(self) -> tuple[TrialRecord, ...]:
        """The trials that none beats in both accuracy and parameters, the smallest first; no capped ones."""
        front: list[TrialRecord] = []
        known = [record for record in self.records.values() if not record.stopped_early]
        for record in sorted(known, key=lambda r: (r.parameters, *rank("accuracy", r))):
            if not front or record.accuracy > front[-1].accuracy:
                front.append(record)
        return tuple(front)
