"""The stages of a run as functions, for notebooks and programs.

They take and return plain objects of the package, and keep nothing but what they return. `Run` does all of it, stores
everything in a workspace, and continues where it was interrupted.

    data = load_data("folder:./flowers", "vit_tiny_patch16_224")
    supernet = create_supernet("vit_tiny_patch16_224", "lean", classes=data.classes)
    train_supernet(supernet, data.train, steps=1_000, lr=1e-2)
    found = search_subnets(supernet, data.search, trials=500)
    refit_subnet(supernet, found.subnet, data, steps=500, lr=1e-2)
    export_subnet(supernet, found.subnet, "flowers-model", data)
    model = load_export("flowers-model")
    found = predict_images("flowers-model", "new-flowers", top=3)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import timm
from torch import nn

from glorasearch.backbone import (
    BackboneConfig,
    build_backbone,
    build_skeleton,
    check_input,
    check_model_input,
    resolve_device,
)
from glorasearch.config import Compile, Config
from glorasearch.data import DataConfig, InputSpec, SearchData, SearchSplit, Splits, TrainSplit, load_splits
from glorasearch.db import TrialStorage
from glorasearch.errors import BackboneError, DataError, ExportError
from glorasearch.evaluation import CandidateEvaluator
from glorasearch.runs.files import is_export
from glorasearch.runs.progress import Progress, Silent
from glorasearch.runs.refit_config import RefitConfig
from glorasearch.search import InProcessExecutor, SearchConfig, SearchDriver, SearchOutcome, SearchProgress
from glorasearch.space import Score, SearchSpace, Subnet
from glorasearch.supernet import Supernet
from glorasearch.training import Fixed, SupernetTrainer, TrainingConfig, TrainingRecord, TrainingResult, make_strategy
from glorasearch.weights import tensor_digest

AnyConfig = TypeVar("AnyConfig", bound=Config)


def load_data(
    source: str | DataConfig,
    backbone: str | BackboneConfig | nn.Module,
    *,
    progress: Progress | None = None,
    crops: bool = False,
    **options: Any,
) -> Splits:
    """The train, search and test split of a data set, preprocessed as a backbone expects.

    Args:
        source: `digits`, `folder:<path>`, `vtab:<root>/<task>`, `npz:<file>.npz#<task>`, a name of timm's
            `create_dataset`, or a config.
        backbone: a timm name, its config, or the model; only its input size and normalisation matter.
        progress: shows the images read, such as `ProgressBars()`.
        crops: keep a larger view of the images that are trained on, too, for augmentations that crop.
        options: further fields of `DataConfig`, such as `train=800`.

    Raises:
        DataError: if the source, an image or a split cannot be used.
        BackboneError: if timm does not know the backbone, or it does not take images of that size.
    """
    config = source.replace(**options) if isinstance(source, DataConfig) else DataConfig(source=source, **options)
    model = backbone if isinstance(backbone, nn.Module) else build_skeleton(_backbone_config(backbone), classes=2)
    spec = InputSpec.from_backbone(model)
    given = spec.override(size=config.size)
    shape = given.channels, given.height, given.width
    if isinstance(backbone, nn.Module):
        check_model_input(model, shape)
    else:
        check_input(_backbone_config(backbone), model, shape)
    with (progress or Silent()).task("reading images, %", 100) as advance:
        return load_splits(config, spec, lambda done, total: advance(100 * done // max(1, total), ""), crops=crops)


def create_supernet(
    backbone: str | BackboneConfig | nn.Module,
    space: str | Path | SearchSpace,
    classes: int | None = None,
    *,
    seed: int = 0,
) -> Supernet:
    """A frozen backbone that carries every choice of a search space, with a new head for the classes.

    Args:
        backbone: a timm name, its config, or a timm model, which is used as it is.
        space: the name of a shipped search space, a path, or the space itself.
        classes: outputs of the new head; of a model that is given, its own.
        seed: of the head and of the adapters.

    Raises:
        BackboneError: if the backbone cannot be built, or `classes` is missing.
        SearchSpaceError: if the space does not fit the backbone.
    """
    if isinstance(backbone, nn.Module):
        model = backbone
    elif classes is None:
        raise BackboneError("create_supernet: classes is missing; give the number of outputs of the new head")
    else:
        model = build_backbone(_backbone_config(backbone), classes=classes, seed=seed)
    return Supernet(model, space if isinstance(space, SearchSpace) else SearchSpace.load(space), seed=seed)


def train_supernet(
    supernet: Supernet,
    split: TrainSplit,
    *,
    subnet: Subnet | None = None,
    device: str = "auto",
    compile: Compile = "auto",
    progress: Progress | None = None,
    on_record: Callable[[TrainingRecord], None] | None = None,
    config: TrainingConfig | None = None,
    **options: Any,
) -> TrainingResult:
    """Train a supernet in place by sampled subnets, or one subnet of it alone.

    Args:
        supernet: trained from the weights that it has.
        split: the images.
        subnet: the one to train alone; if not given, each step samples its own.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:<n>`.
        compile: on GPUs, whether the step is compiled and captured.
        progress: shows the steps, such as `ProgressBars()`.
        on_record: called with losses, rates and norms as the training goes.
        config: the recipe.
        options: fields of `TrainingConfig` in its place, such as `steps=1_000, lr=1e-2`.

    Raises:
        ConfigError: if an option cannot be used.
        NonFiniteLossError: if the training diverges.
    """
    recipe = _config(TrainingConfig, config, options)
    _check_split(supernet, split, TrainSplit)
    strategy = make_strategy(recipe, supernet.space) if subnet is None else Fixed(subnet)
    with (progress or Silent()).task("training", recipe.steps) as advance:
        trainer = SupernetTrainer(
            supernet,
            split,
            strategy,
            recipe,
            device=resolve_device(device),
            compile=compile,
            on_record=on_record,
            on_step=lambda step: advance(step, ""),
        )
        return trainer.run()


def refit_subnet(supernet: Supernet, subnet: Subnet, data: SearchData | Splits, **options: Any) -> TrainingResult:
    """Train one subnet on train + search, from the weights that the supernet has.

    Args:
        supernet: trained in place.
        subnet: one of its space.
        data: the splits; both their train and search images are used.
        options: as for `train_supernet`; `steps` is 1,500 if not given.
    """
    if not isinstance(data, (SearchData, Splits)):
        raise DataError(f"refit_subnet: expected what load_data returns, got a {type(data).__name__}")
    steps = {} if "config" in options else {"steps": RefitConfig().steps}
    supernet.warm_ups.hold_restarts()  # the subnet was scored as it is
    return train_supernet(supernet, data.train_and_search(), subnet=subnet, **(steps | options))


def score_subnet(supernet: Supernet, subnet: Subnet, split: SearchSplit, *, device: str = "auto") -> Score:
    """The score of a subnet on the search split, as the search computes it: that of the merged model.

    Each call builds that model; to score many subnets, make one `CandidateEvaluator`.

    Raises:
        SearchSpaceError: if the subnet is not of the supernet's space.
    """
    _check_split(supernet, split, SearchSplit)
    return CandidateEvaluator(supernet, split, device=resolve_device(device), compile="off").evaluate(subnet)


def search_subnets(
    supernet: Supernet,
    split: SearchSplit,
    *,
    device: str = "auto",
    compile: Compile = "auto",
    storage: TrialStorage | str | None = None,
    study: str = "search",
    progress: Progress | None = None,
    config: SearchConfig | None = None,
    **options: Any,
) -> SearchOutcome:
    """Search the best subnet with the supernet's weights, on the search split; a space's only subnet is scored once.

    Args:
        supernet: gives the weights, which must not change meanwhile.
        split: what candidates are scored on.
        device: as for `train_supernet`; so are `compile` and `progress`.
        compile: on GPUs, whether the forward pass is compiled and captured.
        storage: where trials are kept, such as `sqlite:///trials.db`; in memory if not given. A search that was
            interrupted continues when it is called again.
        study: name of the study in the storage.
        progress: shows the trials.
        config: how to search.
        options: fields of `SearchConfig` in its place, such as `trials=500, sampler="random"`.

    Raises:
        ConfigError: if an option cannot be used.
        SearchError: if the study belongs to another search, or too many evaluations fail.
    """
    settings = _config(SearchConfig, config, options)
    _check_split(supernet, split, SearchSplit)
    if supernet.space.size() == 1:
        settings = settings.for_one_subnet()
    if not isinstance(storage, TrialStorage):
        storage = TrialStorage(storage or "sqlite://")
    evaluator = CandidateEvaluator(
        supernet,
        split,
        device=resolve_device(device),
        batch_size=settings.eval_batch_size,
        hardest_first=settings.kept is not None,
        compile=compile,
        precision=settings.precision,
    )
    with (progress or Silent()).task(f"search ({settings.sampler})", settings.trials) as advance:

        def show(state: SearchProgress) -> None:
            best = state.best
            if best is None or state.best_fitness is None:
                advance(state.done, "")
            elif best.score.right_or_wrong:
                advance(state.done, f"best {100 * best.score.accuracy:.1f} %")
            else:
                advance(state.done, f"best {state.best_fitness:.3f}")

        driver = SearchDriver(
            supernet.space,
            storage,
            InProcessExecutor(evaluator),
            tensor_digest(supernet.adapter_state()),
            study,
            settings,
            split_digest=split.digest,
            on_progress=show,
        )
        return driver.run()


def load_export(path: str | Path) -> nn.Module:
    """An exported model, in evaluation mode: `timm.create_model("local-dir:<path>", pretrained=True)`.

    Raises:
        ExportError: if there is no exported model at the path.
    """
    if not is_export(Path(path)):
        raise ExportError(f"{path} is not a model that glorasearch has exported; expected its config.json there")
    model: nn.Module = timm.create_model(f"local-dir:{path}", pretrained=True)
    return model.eval()


def _backbone_config(backbone: str | BackboneConfig) -> BackboneConfig:
    return backbone if isinstance(backbone, BackboneConfig) else BackboneConfig(name=backbone)


def _check_split(supernet: Supernet, split: TrainSplit | SearchSplit, kind: type[TrainSplit | SearchSplit]) -> None:
    if not isinstance(split, kind):
        raise DataError(f"expected a {kind.__name__}, such as load_data(...).{kind.role}; got a {type(split).__name__}")
    outputs = getattr(supernet.model, "num_classes", None)
    if isinstance(outputs, int) and outputs != split.classes:
        raise DataError(
            f"the data has {split.classes} classes, and the supernet {outputs} outputs: make one for the data"
        )


def _config(kind: type[AnyConfig], given: AnyConfig | None, options: Mapping[str, Any]) -> AnyConfig:
    """The configuration with some fields set otherwise."""
    return kind(**options) if given is None else given.replace(**options)
