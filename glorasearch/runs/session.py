"""What the stages of a run share: device, data, backbone, supernets, weights."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from typing import Any

import timm
import torch
from torch import nn

from glorasearch.adapters import adaptable_layers, frozen_tensors, unadaptable_layers
from glorasearch.backbone import build_backbone, build_skeleton, check_input, resolve_device
from glorasearch.choices import plugin_sources
from glorasearch.code_cache import keep_code
from glorasearch.data import InputSpec, SearchData, SourceSummary, check_source, load_search_data
from glorasearch.errors import WeightsCorruptError, WeightsNotFoundError
from glorasearch.evaluation import load_weights
from glorasearch.race import OWN_SPACE
from glorasearch.runs.curves import Curves
from glorasearch.runs.fixed_methods import BEST_FIXED, Baseline, bind_method, only_subnet
from glorasearch.runs.live_progress import LiveProgress
from glorasearch.runs.paths import public_name, space_label
from glorasearch.runs.progress import Progress
from glorasearch.runs.resources import ResourceConfig
from glorasearch.runs.results import Pick, PilotResult, RaceResult, Result, SearchResult, TrainedResult, stage_name
from glorasearch.runs.stored_run import StoredRun
from glorasearch.search.starts import choose_starts
from glorasearch.space import BoundSpace, SearchSpace, Subnet
from glorasearch.supernet import Supernet
from glorasearch.training import TrainingConfig
from glorasearch.version import __version__
from glorasearch.weights import NodeCache, frozen_digest, tensor_digest


class Session:
    """The working state of one process on a run. Parts are created on first use and kept.

    The test split is not among them: only `stages.final_test` loads it.
    """

    def __init__(
        self, stored: StoredRun, resources: ResourceConfig, progress: Progress, *, fresh: bool = False
    ) -> None:
        """A `fresh` run forgets its earlier results, and reuses nothing of other runs."""
        self.stored, self.resources, self.fresh = stored, resources, fresh
        self.name, self.config, self.files = stored.name, stored.config, stored.files
        self.runs, self.store = stored.runs, stored.workspace.store
        self.progress = LiveProgress(progress, stored.runs, stored.name)
        self.curves = Curves()
        self._spare: Supernet | None = None
        self.on_step_seconds: Callable[[float], None] | None = None  # of the run's first training
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)

    @cached_property
    def device(self) -> str:
        """The device for training and evaluation."""
        return resolve_device(self.config.device)

    def keep_code(self) -> None:
        """On a GPU, have what is compiled kept in the workspace's folder, and say so."""
        plugins = {path for space in self.stored.spaces.values() for path in space.plugins}
        said = keep_code(self.code_cache, self.device, self.config.compile, plugins)
        if said is not None:
            self.progress.say(said)

    @property
    def code_cache(self) -> str | None:
        """The workspace's folder of compiled code, for another process."""
        folder = self.stored.workspace.code_cache
        return None if folder is None else str(folder)

    @cached_property
    def inputs(self) -> InputSpec:
        """What the backbone takes, for which its weights are not needed.

        Raises:
            BackboneError: if it does not take images of `data.size`.
        """
        skeleton = build_skeleton(self.config.backbone, classes=2)
        spec = InputSpec.from_backbone(skeleton)
        given = spec.override(size=self.config.data.size)
        if given != spec or self.config.backbone.args:
            check_input(self.config.backbone, skeleton, (given.channels, given.height, given.width))
        return spec

    @cached_property
    def data(self) -> SearchData:
        """Training and search split."""
        with self.progress.task("reading images, %", 100) as advance:
            return load_search_data(
                self.config.data,
                self.inputs,
                lambda done, total: advance(100 * done // max(1, total), ""),
                crops=self.config.train.augmentation.crops,
            )

    @cached_property
    def source(self) -> SourceSummary:
        """Classes and sizes of the splits; no image is opened to know them."""
        return check_source(self.config.data)

    @cached_property
    def backbone(self) -> nn.Module:
        """The frozen backbone for evaluation and export; the supernets share its memory."""
        return self.fresh_backbone()

    def fresh_backbone(self, *, drop_path: float = 0.0) -> nn.Module:
        """The backbone with a head for the task's classes."""
        config = self.config
        _ = self.inputs
        backbone = build_backbone(config.backbone, len(self.source.class_names), drop_path=drop_path, seed=config.seed)
        backbone = backbone.to(self.device)
        return share_backbone(backbone, NodeCache()) if self.resources.share_backbone else backbone

    @cached_property
    def space(self) -> SearchSpace:
        """The search space of the run."""
        return self.stored.spaces["space"]

    @cached_property
    def bound_space(self) -> BoundSpace:
        """The search space on the backbone's layers."""
        return self.space.bind(adaptable_layers(self.backbone), unadaptable_layers(self.backbone))

    @property
    def training(self) -> TrainingConfig:
        """The recipe of the run's trainings: its file's, with the rate of the pilots where it leaves it open.

        Raises:
            InputError: if the pilots have not finished.
        """
        train = self.config.train
        return train.at(self.require(PilotResult).lr if train.lr == "auto" else train.lr)

    @cached_property
    def only_subnet(self) -> Subnet | None:
        """The subnet of a fixed method; None if there is something to search."""
        return only_subnet(self.bound_space)

    @cached_property
    def starts(self) -> dict[str, Subnet]:
        """What the search starts from, by name; nothing for a fixed method.

        Raises:
            ConfigError: if it does not belong to the space, or lies outside its budget.
        """
        if self.only_subnet is not None:
            return {}
        return choose_starts(self.bound_space, self.config.search, self.stored.starts)

    @cached_property
    def _named_baselines(self) -> dict[str, Baseline]:
        """Those of the run file, checked, without the run's own method, which is not trained twice."""
        layers = list(adaptable_layers(self.backbone))
        spaces = {name: self.stored.spaces[f"report.baselines.{name}"] for name in self.config.report.baselines}
        digests = {name: bind_method("report.baselines", name, space, layers).digest for name, space in spaces.items()}
        own = self.bound_space.digest
        return {name: Baseline(space_label(name), space) for name, space in spaces.items() if digests[name] != own}

    @property
    def baselines(self) -> dict[str, Baseline]:
        """What is trained to compare the winner with; the best fixed method of the race once that has finished.

        Raises:
            ConfigError: if a baseline has more than one subnet.
            SearchSpaceError: if a space cannot be read, or does not fit the backbone.
        """
        race = self.stored.results.race
        best = None if race is None or not self.config.report.best_fixed else race.best_fixed
        if best is None or best.own_space:
            return self._named_baselines
        space = self.stored.spaces[best.space_key]
        return self._named_baselines | {BEST_FIXED: Baseline(best.name, space, best.rate, best.space_key)}

    def supernet(self, space: SearchSpace | None = None, *, training: bool = False) -> Supernet:
        """A supernet with fresh adapters, of the run's space if none is given; `training` gives it drop path."""
        own = (space or self.space).recipe.drop_path
        drop_path = (self.config.train.drop_path if own is None else own) if training else 0.0
        if self._spare is not None and space is None and not drop_path:
            spare, self._spare = self._spare, None
            return spare
        backbone = self.fresh_backbone(drop_path=drop_path) if drop_path else self.backbone
        return Supernet(backbone, space or self.space, seed=self.config.seed)

    @property
    def pick(self) -> Pick:
        """What is refitted, tested and exported.

        Raises:
            InputError: if the race, or the search of a run without one, has not finished.
        """
        self.require(RaceResult if self.config.race.enabled else SearchResult)
        pick = self.stored.results.pick
        assert pick is not None
        return pick

    def plugins_of(self, space: SearchSpace) -> dict[str, str]:
        """Plugin of a space → digest of its files; what code without one has trained belongs to this run alone."""
        return {path: source or f"of run {self.name}" for path, source in plugin_sources(space.plugins).items()}

    def space_of(self, key: str) -> SearchSpace | None:
        """The search space of a key, for `supernet`: None is the run's own."""
        return None if key == OWN_SPACE else self.stored.spaces[key]

    def give_back(self, supernet: Supernet) -> None:
        """Keep an unchanged supernet of the run's space for the next call of `supernet`."""
        self._spare = supernet

    def require(self, kind: type[Result], part: str | None = None) -> Result:
        """The result of an earlier stage, as `StoredRun.require`."""
        return self.stored.require(kind, part)

    def load(self, supernet: Supernet, kind: type[TrainedResult], part: str | None = None) -> Supernet:
        """Load the final weights of a stage into a supernet, and return it.

        Raises:
            InputError: if that stage has not finished.
            WeightStoreError: if the weights are gone or damaged; the message says how to make them again.
            EvaluationError: if they were trained on another backbone.
        """
        digest = self.require(kind, part).weights
        with self._weights_of(stage_name(kind, part)):
            load_weights(supernet, self.store, digest)
        return supernet

    def verify(self, kind: type[TrainedResult], part: str | None = None) -> str:
        """Verify the final weights of a stage, and return their digest; raises as `load`."""
        digest = self.require(kind, part).weights
        with self._weights_of(stage_name(kind, part)):
            NodeCache().get(self.store, digest)  # so that the processes of this node need not verify them again
        return digest

    @contextmanager
    def _weights_of(self, stage: str) -> Iterator[None]:
        """Add to errors of missing or damaged weights how to recreate them."""
        again = f"`glorasearch {stage if stage in ('train', 'refit') else 'run'} RUN_FILE` recreates them"
        try:
            yield
        except WeightsNotFoundError as error:
            raise WeightsNotFoundError(
                f"the weights of stage {stage!r} of run {self.name!r} are gone: {error}; {again}"
            ) from error
        except WeightsCorruptError as error:
            raise WeightsCorruptError(
                f"the weights of stage {stage!r} of run {self.name!r} are damaged: {error}. Once they are deleted, "
                f"{again}"
            ) from error

    def put(self, supernet: Supernet, stage: str, **facts: Any) -> str:
        """Store a supernet's adapters and head; returns their digest."""
        manifest: dict[str, Any] = {
            "backbone": public_name(self.config.backbone.name),
            "backbone_digest": frozen_digest(supernet),
            "space": supernet.space.name,
            "space_digest": supernet.space.digest,
            "code_version": __version__,
            "run": self.name,
            "stage": stage,
        }
        return self.store.put(supernet.adapter_state(), manifest | facts)


def share_backbone(model: nn.Module, cache: NodeCache) -> nn.Module:
    """Make the frozen weights of a backbone on the CPU views of a file in the node cache, and return it.

    The key is their digest, so backbones that differ in the head alone (tasks with other classes) share them.
    """
    state = frozen_tensors(model)
    if any(value.device.type != "cpu" for value in state.values()):
        return model
    mapped = cache.remember(f"backbone {tensor_digest(state)}", lambda: state)
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if name in mapped:
            tensor.data = mapped[name]
    return model


def versions() -> dict[str, str]:
    """Versions of the software that decides the results."""
    return {
        "glorasearch": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "timm": str(timm.__version__),
    }
