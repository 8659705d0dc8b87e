"""Scores of a race as its table holds them."""

from __future__ import annotations

from typing import Any

from glorasearch.db import RaceMember
from glorasearch.race import FoldScore


def fold_score(member: RaceMember) -> FoldScore:
    """What a training's row says of it."""
    nats, judged = None if member.nats is None else tuple(member.nats), member.judged or {}
    classes = judged.get("classes")
    counts = None if classes is None else tuple(map(tuple, classes))
    return FoldScore(member.images, member.correct, nats, counts, judged.get("auc"))


def score_columns(score: FoldScore) -> dict[str, Any]:
    """The fields of the row that say it."""
    judged = None
    if score.classes is not None or score.auc is not None:
        judged = {"classes": None if score.classes is None else list(map(list, score.classes)), "auc": score.auc}
    return {"images": score.images, "correct": score.correct, "nats": score.nats, "judged": judged}
