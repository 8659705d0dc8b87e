"""One run at work: its configuration, its stores, and the parts that its stages share."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

import glorasearch
from glorasearch.assets import quickstart_backbone_path
from glorasearch.backbone import BackboneConfig, build_backbone, build_skeleton
from glorasearch.data import DataConfig, SearchData, load_search_data
from glorasearch.db import Database, RunStore
from glorasearch.errors import ExportError, InputError, SearchSpaceError, WeightsCorruptError, WeightsNotFoundError
from glorasearch.evaluation import input_spec, load_weights
from glorasearch.export import BackboneFacts, check_exportable
from glorasearch.runs.config import RunConfig
from glorasearch.runs.progress import Progress, Silent
from glorasearch.runs.resources import ResourceConfig
from glorasearch.runs.shared_backbone import share_backbone
from glorasearch.runs.workspace import Workspace
from glorasearch.space import BoundSpace, SearchSpace
from glorasearch.supernet import Supernet
from glorasearch.training import SupernetTrainer
from glorasearch.weights import NodeCache, WeightStore, frozen_digest
from glorasearch.weights.checkpoint import previous_checkpoint

QUICKSTART_BACKBONE = "quickstart"


class Run:
    """What the stages of a run have in common. The test split is not here: `runs.stages.final_test` alone loads it."""

    def __init__(
        self,
        run_file: RunConfig,
        workspace: Workspace,
        database: Database,
        *,
        progress: Progress | None = None,
        resources: ResourceConfig | None = None,
        share_backbone: bool = False,
    ) -> None:
        """Take the parts of a run together; nothing is read yet.

        Args:
            run_file: what the run is asked to do.
            workspace: where it keeps things.
            database: of the workspace.
            progress: what is told as it happens.
            resources: where its work is done.
            share_backbone: on the CPU, have the backbone's memory in common with other runs of this machine.
        """
        self.config, self.workspace, self.database = run_file, workspace, database
        self.runs = RunStore(database)
        self.progress: Progress = progress or Silent()
        self.resources = resources or ResourceConfig()
        self._share_backbone = share_backbone
        self.reuse = True
        """Take over what another run of the workspace has trained already, if it is the same."""
        self._checked: Supernet | None = None
        """The supernet that `check` made and left as it was, until it is asked for."""
        self.name = run_file.name
        if run_file.threads is not None:
            torch.set_num_threads(run_file.threads)
        self.folder = workspace.run_folder(self.name)
        self.store = WeightStore(workspace.store_url)

    @cached_property
    def device(self) -> str:
        """Where to train and evaluate."""
        wanted = self.config.device
        if wanted == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(wanted)
        except RuntimeError:
            device = None
        if device is None or device.type not in ("cpu", "cuda"):
            raise InputError(f"device {wanted!r} is not supported; use auto, cpu, cuda or cuda:<n>")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            found = torch.cuda.device_count()
            raise InputError(f"device {wanted!r}: this machine has {found or 'no'} CUDA devices; use auto or cpu")
        if device.type == "cuda" and device.index is not None:  # else the current device is meant already
            torch.cuda.set_device(device)  # streams, graphs and Triton's launches go to the current device
        return str(device)

    @cached_property
    def data_config(self) -> DataConfig:
        """The data section as the data room wants it."""
        values = self.config.data.model_dump()
        values["seed"] = self.config.seed if values["seed"] is None else values["seed"]
        return DataConfig(**values)

    @cached_property
    def data(self) -> SearchData:
        """Training and search split."""
        # What a backbone wants to see does not depend on its weights, and its classes are known from the data only.
        probe = build_skeleton(self._backbone_config(classes=2))
        with self.progress.task("reading images, %", 100) as advance:
            return load_search_data(
                self.data_config,
                input_spec(probe, self.data_config),
                lambda done, total: advance(100 * done // max(1, total), ""),
            )

    def backbone_config(self, *, drop_path: bool = False) -> BackboneConfig:
        """The backbone with a head for the task's classes."""
        return self._backbone_config(self.data.classes, drop_path=drop_path)

    def _backbone_config(self, classes: int, *, drop_path: bool = False) -> BackboneConfig:
        section = self.config.backbone
        name = f"local-dir:{quickstart_backbone_path()}" if section.name == QUICKSTART_BACKBONE else section.name
        return BackboneConfig(
            name=name,
            classes=classes,
            pretrained=section.pretrained,
            checkpoint=section.checkpoint,
            args=dict(section.args),
            drop_path=self.config.train.drop_path if drop_path else 0.0,
            seed=self.config.seed,
        )

    @cached_property
    def backbone(self) -> nn.Module:
        """The frozen backbone for evaluation and export; its memory is shared by all supernets made here."""
        return self._built(self.backbone_config())

    def _built(self, config: BackboneConfig) -> nn.Module:
        backbone = build_backbone(config).to(self.device)
        return share_backbone(backbone, NodeCache()) if self._share_backbone else backbone

    @cached_property
    def space(self) -> SearchSpace:
        """The search space of the run."""
        return self.config.search_space()

    def supernet(self, space: SearchSpace | BoundSpace | None = None, *, training: bool = False) -> Supernet:
        """A supernet with fresh adapters; `training` gives it the run's drop path."""
        drops = training and self.config.train.drop_path > 0
        if self._checked is not None and space is None and not drops:
            checked, self._checked = self._checked, None
            return checked
        backbone = self._built(self.backbone_config(drop_path=True)) if drops else self.backbone
        return Supernet(backbone, space or self.space, seed=self.config.seed)

    def load(self, supernet: Supernet, digest: str) -> Supernet:
        """Load stored weights into a supernet and return it."""
        load_weights(supernet, self.store, digest)
        return supernet

    def put(self, supernet: Supernet, **facts: Any) -> str:
        """Store a supernet's adapters and head; returns their digest."""
        manifest: Mapping[str, Any] = {
            "backbone": self.backbone_config().name,
            "backbone_digest": frozen_digest(supernet),
            "space": supernet.space.name,
            "space_digest": supernet.space.digest,
            "code_version": glorasearch.__version__,
            **facts,
        }
        return self.store.put(supernet.adapter_state(), manifest)

    def trainer_config(
        self, *, steps: int, lr: float | None = None, warmup: int | None = None
    ) -> SupernetTrainer.Config:
        """The run's recipe for a number of steps; a training shorter than the warm-up spends a tenth on it."""
        section = self.config.train
        peak = section.lr if lr is None else lr
        scale = peak / section.lr
        warmup = section.warmup_steps if warmup is None else warmup
        return SupernetTrainer.Config(
            steps=steps,
            batch_size=section.batch_size,
            lr=peak,
            vector_lr=(section.vector_lr or section.lr) * scale,
            spectrum_lr=None if section.spectrum_lr is None else section.spectrum_lr * scale,
            head_lr=(section.head_lr or section.lr) * scale,
            weight_decay=section.weight_decay,
            warmup_steps=min(warmup, steps // 10),
            label_smoothing=section.label_smoothing,
            clip_norm=section.clip_norm,
            precision=section.precision,
            compile=self.config.compile,
            seed=self.config.seed,
            record_every=section.record_every,
            probe_every=section.probe_every,
            checkpoint_every=section.checkpoint_every,
        )

    def checkpoint(self, stage: str) -> Path:
        """Where a stage keeps its training checkpoint."""
        return self.folder / "checkpoints" / f"{stage.replace(':', '-').replace('/', '-')}.safetensors"

    def forget_checkpoint(self, stage: str) -> None:
        """Remove the checkpoint of a stage whose result is stored."""
        path = self.checkpoint(stage)
        for kept in (path, previous_checkpoint(path)):
            kept.unlink(missing_ok=True)

    def result(self, stage: str) -> Mapping[str, Any] | None:
        """The result of a stage, if it has finished."""
        record = self.runs.get(self.name)
        return None if record is None else record.stages.get(stage)

    def require(self, stage: str) -> Mapping[str, Any]:
        """The result of an earlier stage.

        Raises:
            InputError: if that stage has not been run.
        """
        result = self.result(stage)
        if result is None:
            command = stage if stage in ("train", "search", "refit", "export") else "run"
            raise InputError(
                f"run {self.name!r} has no finished stage {stage!r}; run `glorasearch {command} RUN_FILE` first"
            )
        return result

    def weights(self, stage: str) -> str:
        """The digest of the weights that a finished stage ended in, verified in the weight store.

        Raises:
            InputError: if that stage has not been run.
            WeightStoreError: if the weights are gone or damaged; the message says how to make them again.
        """
        digest = str(self.require(stage)["weights"])
        again = f"`glorasearch {stage if stage in ('train', 'refit') else 'run'} RUN_FILE` makes them again"
        try:
            self.store.verify(digest)
        except WeightsNotFoundError as error:
            raise WeightsNotFoundError(
                f"the weights of stage {stage!r} of run {self.name!r} are gone: {error}; {again}"
            ) from error
        except WeightsCorruptError as error:
            raise WeightsCorruptError(
                f"the weights of stage {stage!r} of run {self.name!r} are damaged: {error}. Once they are deleted, "
                f"{again}"
            ) from error
        return digest

    def versions(self) -> dict[str, str]:
        """Versions of what decides the numbers."""
        import timm

        return {
            "glorasearch": glorasearch.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "timm": str(timm.__version__),
        }

    def check(self) -> None:
        """Refuse what cannot work before anything starts: device, data, backbone, space, budget.

        Raises:
            InputError: of the kind that fits.
        """
        supernet = self.supernet()
        images, _ = self.data.train.batch(slice(0, 2), self.device)
        supernet.check_reached(images)
        self._checked = supernet
        gained = supernet.gains_bias()
        if gained:
            facts = BackboneFacts.from_model(self.backbone)
            try:
                check_exportable(facts.architecture, facts.model_args, gained)
            except ExportError as error:
                raise SearchSpaceError(f"search space {self.space.name}: {error}") from error
