"""Search spaces, subnets and all that can be computed of them without a model: pure Python, shared by both planes."""

from glorasearch.choices import SUPPORT_TENSORS, Choice, LayerShape, Site, parse_choice
from glorasearch.space.bound import BYTES_PER_NUMBER, BoundSpace, Gene
from glorasearch.space.class_counts import ClassCounts
from glorasearch.space.config import SpaceConfig
from glorasearch.space.early_stopping import StopThreshold
from glorasearch.space.known_backbones import known_layers, known_names, transformer_layers
from glorasearch.space.messages import Evaluate, EvaluationResult, EvaluationTask, evaluate_safely
from glorasearch.space.named_points import named_points
from glorasearch.space.operators import crossover, mutate, repair, sample, sample_within_budget
from glorasearch.space.recipe import Recipe
from glorasearch.space.score import (
    BETAS,
    CLASS_METRICS,
    FITNESSES,
    OF_NUMBERS,
    WITHOUT_BOUND,
    Fitness,
    Score,
    ScoreSums,
    fitness_name,
    higher_is_better,
)
from glorasearch.space.search_space import SearchSpace, shipped_directory, shipped_names
from glorasearch.space.sections import Budget
from glorasearch.space.sizes import SimulatedSizes, Sizes, simulate_sizes
from glorasearch.space.subnet import GeneKey, Subnet

__all__ = [
    "BETAS",
    "BYTES_PER_NUMBER",
    "CLASS_METRICS",
    "FITNESSES",
    "OF_NUMBERS",
    "SUPPORT_TENSORS",
    "WITHOUT_BOUND",
    "BoundSpace",
    "Budget",
    "Choice",
    "ClassCounts",
    "Evaluate",
    "EvaluationResult",
    "EvaluationTask",
    "Fitness",
    "Gene",
    "GeneKey",
    "LayerShape",
    "Recipe",
    "Score",
    "ScoreSums",
    "SearchSpace",
    "SimulatedSizes",
    "Site",
    "Sizes",
    "SpaceConfig",
    "StopThreshold",
    "Subnet",
    "crossover",
    "evaluate_safely",
    "fitness_name",
    "higher_is_better",
    "known_layers",
    "known_names",
    "mutate",
    "named_points",
    "parse_choice",
    "repair",
    "sample",
    "sample_within_budget",
    "shipped_directory",
    "shipped_names",
    "simulate_sizes",
    "transformer_layers",
]
