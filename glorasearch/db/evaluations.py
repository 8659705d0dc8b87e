"""What the evaluation of a subnet found, kept once for a study so that no subnet is evaluated twice."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from glorasearch.db.models import EvaluationRow, TrialRow, table_of

_rows = table_of(EvaluationRow)
_trials = table_of(TrialRow)

_KNOWN = select(_rows.c.trial_id).where(
    _rows.c.study_id == bindparam("study"), _rows.c.subnet_digest == bindparam("digest")
)
_INSERT = _rows.insert()


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The metrics of one subnet on the search split; of a capped one, on the images that were seen."""

    subnet_digest: str
    parameters: int
    """Trainable parameters, the head excluded."""
    correct: int
    """Images that were classified correctly, among those seen."""
    total: int
    """Images of the search split."""
    cross_entropy: float
    """Mean cross-entropy over the images seen, nats."""
    seconds: float
    """Wall-clock seconds of the evaluation."""
    bound: float | None = None
    """Of a capped subnet: the best fitness that it could still have reached."""
    stopped_after: int | None = None
    """Of a capped subnet: the images that were seen."""
    trial_number: int | None = None
    """The trial that it was made for; filled in when it is read."""

    @property
    def accuracy(self) -> float:
        """Share of correct images among those seen, between 0 and 1."""
        seen = self.total if self.stopped_after is None else self.stopped_after
        return self.correct / seen if seen else float("nan")


def insert_evaluation(connection: Connection, study_id: int, trial_id: int, evaluation: Evaluation) -> None:
    """Record an evaluation, unless the study has one of that subnet: the first one stays, both say the same.

    Raises:
        sqlalchemy.exc.IntegrityError: if another transaction is recording the same one right now; try again.
    """
    if connection.execute(_KNOWN, {"study": study_id, "digest": evaluation.subnet_digest}).first() is not None:
        return
    connection.execute(
        _INSERT,
        {
            "study_id": study_id,
            "subnet_digest": evaluation.subnet_digest,
            "trial_id": trial_id,
            "parameters": evaluation.parameters,
            "correct": evaluation.correct,
            "total": evaluation.total,
            "cross_entropy": evaluation.cross_entropy,
            "seconds": evaluation.seconds,
            "bound": evaluation.bound,
            "stopped_after": evaluation.stopped_after,
        },
    )


def select_evaluation(connection: Connection, study_id: int, subnet_digest: str) -> Evaluation | None:
    """The evaluation of a subnet in a study, if there is one."""
    row = connection.execute(
        select(_rows, _trials.c.number)
        .join(_trials, _trials.c.id == _rows.c.trial_id)
        .where(_rows.c.study_id == study_id, _rows.c.subnet_digest == subnet_digest)
    ).one_or_none()
    if row is None:
        return None
    return Evaluation(
        subnet_digest=row.subnet_digest,
        parameters=row.parameters,
        correct=row.correct,
        total=row.total,
        cross_entropy=row.cross_entropy,
        seconds=row.seconds,
        bound=row.bound,
        stopped_after=row.stopped_after,
        trial_number=row.number,
    )
