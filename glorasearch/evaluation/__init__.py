"""Scoring candidates on the search split."""

from glorasearch.evaluation.evaluator import CandidateEvaluator

__all__ = ["CandidateEvaluator"]
