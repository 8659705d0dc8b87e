"""Metrics, and tests and intervals that say what a difference is worth, without SciPy, which takes a second to import.

Nothing here knows of runs or subnets: numbers in, numbers out.
"""

from glorasearch.statistics.chance import BestByChance, best_by_chance
from glorasearch.statistics.intervals import mean_interval, student_quantile, student_within, wilson
from glorasearch.statistics.label_metrics import label_curves, measure_labels
from glorasearch.statistics.metrics import LABEL_METRICS, METRICS, NUMBER_METRICS, Estimate, Metric, measure
from glorasearch.statistics.multiple import holm
from glorasearch.statistics.number_metrics import by_target, measure_numbers
from glorasearch.statistics.paired_errors import PairedErrors
from glorasearch.statistics.paired_images import LEVEL, PairedImages, mcnemar_p
from glorasearch.statistics.paired_runs import PairedRuns, wilcoxon_p
from glorasearch.statistics.ranks import kendall_tau

__all__ = [
    "LABEL_METRICS",
    "LEVEL",
    "METRICS",
    "NUMBER_METRICS",
    "BestByChance",
    "Estimate",
    "Metric",
    "PairedErrors",
    "PairedImages",
    "PairedRuns",
    "best_by_chance",
    "by_target",
    "holm",
    "kendall_tau",
    "label_curves",
    "mcnemar_p",
    "mean_interval",
    "measure",
    "measure_labels",
    "measure_numbers",
    "student_quantile",
    "student_within",
    "wilcoxon_p",
    "wilson",
]
