"""What the driver remembers of its study, so that it need not ask the database again for every trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from glorasearch.search.fitness import Fitness, rank
from glorasearch.search.genome import Genome
from glorasearch.search.record import PARAMETERS, REASON, SUBNET, TrialRecord, is_capped
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
    """The trials of a study by what has become of them."""

    def __init__(self, fitness: Fitness) -> None:
        self._fitness: Fitness = fitness
        self.records: dict[int, TrialRecord] = {}
        """Trial number → scores, of completed and of capped trials."""
        self.failures: dict[int, str] = {}
        """Trial number → why it failed."""
        self.running: dict[int, RunningTrial] = {}
        self.unsampled: dict[int, FrozenTrial] = {}
        """Trials that were created, but whose subnet was not stored before the search was cut off."""
        self.best: TrialRecord | None = None
        self.reused = 0
        self.capped = 0
        """Evaluated trials that were capped."""
        self._evaluated: dict[str, TrialRecord] = {}

    def load(self, trials: Iterable[FrozenTrial], genome: Genome) -> None:
        """Take in what the study holds."""
        for trial in trials:
            if trial.state == TrialState.COMPLETE or is_capped(trial):
                self.add(TrialRecord.from_attrs(trial.number, trial.user_attrs))
            elif trial.state.is_finished():
                self.failures[trial.number] = str(trial.user_attrs.get(REASON, "unknown"))
            elif SUBNET in trial.user_attrs:
                parameters = int(trial.user_attrs[PARAMETERS])
                subnet = genome.subnet(trial.params)
                self.running[trial.number] = RunningTrial(trial.number, trial._trial_id, subnet, parameters)
            else:
                self.unsampled[trial.number] = trial

    def add(self, record: TrialRecord) -> None:
        """Take in the scores of a trial."""
        self.running.pop(record.number, None)
        self.records[record.number] = record
        if record.reused_from is None:
            self._evaluated[record.subnet_digest] = record
            self.capped += record.capped
        else:
            self.reused += 1
        if record.capped:
            return
        if self.best is None or rank(self._fitness, record) < rank(self._fitness, self.best):
            self.best = record

    def fail(self, number: int, reason: str) -> None:
        """Take in the failure of a trial."""
        self.running.pop(number, None)
        self.failures[number] = reason

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
        known = [record for record in self.records.values() if not record.capped]
        for record in sorted(known, key=lambda r: (r.parameters, *rank("accuracy", r))):
            if not front or record.accuracy > front[-1].accuracy:
                front.append(record)
        return tuple(front)
