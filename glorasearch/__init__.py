"""Architecture search for GLoRA supernets: the best parameter-efficient adapter for every layer, merged away.

A whole run, from a config or a run file to a merged model and a report:

    run = glorasearch.Run(glorasearch.RunConfig.load("flowers.toml"), progress=glorasearch.ProgressBars())
    report = run.execute()

Or its stages one by one: `load_data`, `create_supernet`, `train_supernet`, `score_subnet`, `search_subnets`,
`refit_subnet`, `export_subnet`, `load_export`, `predict_images`.
Names are imported when they are first used, so importing the package takes no time and no torch.
"""

from typing import TYPE_CHECKING

from glorasearch.lazy import lazy_names
from glorasearch.version import __version__

if TYPE_CHECKING:
    from glorasearch.api import (
        create_supernet,
        load_data,
        load_export,
        refit_subnet,
        score_subnet,
        search_subnets,
        train_supernet,
    )
    from glorasearch.backbone import BackboneConfig
    from glorasearch.choices import Choice
    from glorasearch.data import DataConfig, Splits
    from glorasearch.db import TrialStorage
    from glorasearch.errors import GlorasearchError, InputError, RunError
    from glorasearch.evaluation import CandidateEvaluator, accuracy_on_test
    from glorasearch.export import export_subnet
    from glorasearch.runs import Progress, Report, ResourceConfig, Results, Run, RunConfig, Workspace
    from glorasearch.runs.bars import ProgressBars
    from glorasearch.runs.lr_finder import find_lr
    from glorasearch.runs.predictions import predict_images
    from glorasearch.search import SearchConfig, SearchOutcome, TrialRecord
    from glorasearch.serving import AdapterServer
    from glorasearch.space import BoundSpace, Score, SearchSpace, SpaceConfig, Subnet
    from glorasearch.supernet import Supernet
    from glorasearch.training import SupernetTrainer, TrainingConfig, TrainingRecord, TrainingResult, TrainSection

__all__ = [
    "AdapterServer",
    "BackboneConfig",
    "BoundSpace",
    "CandidateEvaluator",
    "Choice",
    "DataConfig",
    "GlorasearchError",
    "InputError",
    "Progress",
    "ProgressBars",
    "Report",
    "ResourceConfig",
    "Results",
    "Run",
    "RunConfig",
    "RunError",
    "Score",
    "SearchConfig",
    "SearchOutcome",
    "SearchSpace",
    "SpaceConfig",
    "Splits",
    "Subnet",
    "Supernet",
    "SupernetTrainer",
    "TrainSection",
    "TrainingConfig",
    "TrainingRecord",
    "TrainingResult",
    "TrialRecord",
    "TrialStorage",
    "Workspace",
    "__version__",
    "accuracy_on_test",
    "create_supernet",
    "export_subnet",
    "find_lr",
    "load_data",
    "load_export",
    "predict_images",
    "refit_subnet",
    "score_subnet",
    "search_subnets",
    "train_supernet",
]

__getattr__ = lazy_names(
    __name__,
    {
        "api": (
            "create_supernet",
            "load_data",
            "load_export",
            "refit_subnet",
            "score_subnet",
            "search_subnets",
            "train_supernet",
        ),
        "backbone": ("BackboneConfig",),
        "choices": ("Choice",),
        "data": ("DataConfig", "Splits"),
        "db": ("TrialStorage",),
        "errors": ("GlorasearchError", "InputError", "RunError"),
        "evaluation": ("CandidateEvaluator", "accuracy_on_test"),
        "export": ("export_subnet",),
        "runs": ("Progress", "Report", "ResourceConfig", "Results", "Run", "RunConfig", "Workspace"),
        "runs.bars": ("ProgressBars",),
        "runs.lr_finder": ("find_lr",),
        "runs.predictions": ("predict_images",),
        "search": ("SearchConfig", "SearchOutcome", "TrialRecord"),
        "serving": ("AdapterServer",),
        "space": ("BoundSpace", "Score", "SearchSpace", "SpaceConfig", "Subnet"),
        "supernet": ("Supernet",),
        "training": ("SupernetTrainer", "TrainSection", "TrainingConfig", "TrainingRecord", "TrainingResult"),
    },
    modules=(
        "adapters",
        "backbone",
        "choices",
        "data",
        "db",
        "errors",
        "evaluation",
        "export",
        "runs",
        "search",
        "serving",
        "space",
        "statistics",
        "supernet",
        "training",
        "weights",
    ),
)


def __dir__() -> list[str]:
    return sorted(__all__)
