"""Scoring candidates on the search split."""

from glorasearch.evaluation.build import EvaluatorSpec, build_evaluator, load_weights
from glorasearch.evaluation.evaluator import CandidateEvaluator
from glorasearch.evaluation.layer_costs import LayerCosts, milliseconds, training_flops
from glorasearch.evaluation.probe import probe
from glorasearch.evaluation.scoring import (
    TestOutputs,
    accuracy_on_test,
    correct_on_test,
    logits_on_search,
    outputs_on_test,
    score_sums,
    tempered_of,
)

__all__ = [
    "CandidateEvaluator",
    "EvaluatorSpec",
    "LayerCosts",
    "TestOutputs",
    "accuracy_on_test",
    "build_evaluator",
    "correct_on_test",
    "load_weights",
    "logits_on_search",
    "milliseconds",
    "outputs_on_test",
    "probe",
    "score_sums",
    "tempered_of",
    "training_flops",
]
