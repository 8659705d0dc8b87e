"""What the evaluators measure, for Ray's own Prometheus endpoint of each node; Ray puts `ray_` before the names."""

from __future__ import annotations

from typing import Final

from ray.util.metrics import Counter, Histogram

from glorasearch.space import EvaluationResult

_SECONDS: Final = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
"""Upper ends of the buckets."""


class EvaluatorMetrics:
    """The metrics of one worker; Ray adds its node and its process to each."""

    def __init__(self) -> None:
        self._evaluations = Counter(
            "glorasearch_evaluations_total", "Evaluations, by how they ended.", tag_keys=("outcome",)
        )
        self._seconds = Histogram("glorasearch_evaluation_seconds", "Seconds of an evaluation.", boundaries=_SECONDS)
        self._images = Counter("glorasearch_evaluated_images_total", "Images that were scored.")
        self._builds = Counter(
            "glorasearch_evaluator_builds_total", "Evaluators that were built, or could not be.", tag_keys=("outcome",)
        )

    def built(self, *, fails: bool) -> None:
        """The evaluator has been built, or could not be."""
        self._builds.inc(1, {"outcome": "failed" if fails else "built"})

    def evaluated(self, result: EvaluationResult, seconds: float) -> None:
        """A candidate has been evaluated."""
        score = result.score
        outcome = "failed" if score is None else "stopped_early" if score.stopped_early else "scored"
        self._evaluations.inc(1, {"outcome": outcome})
        self._seconds.observe(seconds)
        if score is not None and score.seen:
            self._images.inc(score.seen)
