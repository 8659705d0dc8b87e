"""Run files: what a run is asked to do, as strict TOML with `--set` overrides."""

from __future__ import annotations

import copy
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from glorasearch.choices import plugin_sources
from glorasearch.errors import ConfigError
from glorasearch.runs.paths import anchored
from glorasearch.space import SearchSpace, without_later_defaults
from glorasearch.strict_toml import read_toml, validate

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BackboneSection(BaseModel):
    """The frozen pretrained model."""

    model_config = _STRICT
    name: str = Field(min_length=1)
    """A timm name, `local-dir:<path>`, or `quickstart` for the small shipped one."""
    pretrained: bool = True
    """Load the pretrained weights of that name; they must be local or downloadable."""
    checkpoint: str | None = None
    """A file with the weights, when they are not to come from the hub."""
    args: dict[str, Any] = {}
    """Further arguments of `timm.create_model`."""


class DataSection(BaseModel):
    """The images and how they are split."""

    model_config = _STRICT
    source: str = Field(min_length=1)
    """`digits`, `vtab:<root>/<task>`, `folder:<path>`, or a name of timm's `create_dataset`."""
    root: str | None = None
    """Root folder of a data set that is named in timm's way."""
    seed: int | None = None
    """Seed of splits that have to be drawn; the run's seed if not given."""
    train: int | None = Field(default=None, ge=1)
    """Images of the training split, where it has to be drawn."""
    search: int | float | None = Field(default=None, gt=0)
    """Images of the search split (a share below 1), where it has to be drawn."""
    test: int | float | None = Field(default=None, gt=0)
    """Images of the test split (a share below 1), where it has to be drawn."""
    train_split: str | None = None
    search_split: str | None = None
    test_split: str | None = None
    size: int | tuple[int, int] | None = None
    """Height and width of the images, pixels; the backbone's if not given."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    allow_overlap: bool = False
    """Go on although more than 1 % of a split's images stand in another one too."""
    max_memory_gib: float = Field(default=4.0, ge=0)
    """A data set that fits is decoded once and kept in memory."""


class SpaceSection(BaseModel):
    """The search space and overrides of it."""

    model_config = _STRICT
    name: str = "glora_medium"
    """The name of a shipped space or the path of a TOML file."""
    min: int | None = Field(default=None, ge=0)
    """Least trainable parameters, the head excluded."""
    max: int | None = Field(default=None, ge=0)
    """Most trainable parameters, the head excluded."""
    entangle: Literal["untied", "reference"] | None = None


class TrainSection(BaseModel):
    """The supernet's training."""

    model_config = _STRICT
    steps: int = Field(default=6_000, ge=0)
    strategy: Literal["uniform", "sandwich"] = "uniform"
    middle: int = Field(default=1, ge=0)
    """Random subnets of a sandwich step."""
    batch_size: int = Field(default=64, ge=1)
    """Images of a step, those of all ranks together."""
    ranks: int = Field(default=1, ge=1)
    """Parts of a step of the supernet's training, each with a path of its own on its own share of the images."""
    lr: float = Field(default=1e-3, gt=0)
    vector_lr: float | None = Field(default=None, gt=0)
    """Of vectors and constants; `lr` if not given."""
    spectrum_lr: float | None = Field(default=None, gt=0)
    """Of the coefficients of spectra (`fourier`); by `lr` and the sizes of their layers if not given."""
    head_lr: float | None = Field(default=None, gt=0)
    """Of the head; `lr` if not given."""
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_steps: int = Field(default=50, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, ge=0)
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    record_every: int = Field(default=25, ge=1)
    probe_every: int = Field(default=250, ge=0)
    checkpoint_every: int = Field(default=200, ge=1)

    @model_validator(mode="after")
    def _ranks_share_the_images(self) -> Self:
        if self.batch_size % self.ranks:
            raise ValueError(
                f"train.batch_size is {self.batch_size}, which {self.ranks} ranks (train.ranks) cannot share equally; "
                f"take a multiple of {self.ranks}"
            )
        return self


class SearchSection(BaseModel):
    """The search for the best subnet."""

    model_config = _STRICT
    sampler: str = "evolution"
    mode: Literal["generational", "steady"] = "generational"
    """`steady`: a trial is made as soon as a worker has room, of what has finished by then; no waiting for batches."""
    trials: int = Field(default=1_000, ge=1)
    fitness: Literal["accuracy", "cross_entropy"] = "cross_entropy"
    population: int = Field(default=50, ge=2)
    parents: int = Field(default=10, ge=2)
    mutation: float = Field(default=0.2, gt=0, le=1)
    """Probability with which a gene of a mutant is drawn anew."""
    batch: int = Field(default=10, ge=1)
    """Trials asked for together by samplers without a population."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the candidates' forward; `auto` is bfloat16 on GPUs and float32 on CPUs."""
    eval_batch_size: int | None = Field(default=None, ge=1)
    """Images that a candidate scores at once; 25 if not given."""
    early_stopping: bool = True
    """Stop the evaluation of candidates that are certain to be no parents and not the winner."""
    early_stopping_lag: int | None = Field(default=None, ge=1)
    """Candidates that may be evaluated at once with early stopping; if not given, 4 in one process, else a batch."""
    max_failure_share: float = Field(default=0.2, ge=0, le=1)
    """The search stops when more than this share of a batch cannot be evaluated."""


class RefitSection(BaseModel):
    """Training the winner alone on train + search."""

    model_config = _STRICT
    steps: int = Field(default=1_000, ge=0)
    """0 keeps the inherited weights."""
    start: Literal["inherited", "fresh"] = "inherited"
    lr: float | None = Field(default=None, gt=0)
    """Peak learning rate; that of the supernet's training if not given."""
    warmup_steps: int | None = Field(default=None, ge=0)


class ExportSection(BaseModel):
    """The merged model."""

    model_config = _STRICT
    path: str | None = None
    """Where to write it; `<workspace>/runs/<run>/export` if not given."""
    tolerance: float = Field(default=1e-3, gt=0)
    """Largest allowed difference of merged and active outputs, relative to the largest output."""


class ReportSection(BaseModel):
    """What the final report compares with, trained on train + search."""

    model_config = _STRICT
    baselines: tuple[str, ...] = ()
    """`linear_probe`, or names of search spaces that have one subnet (`lora`, `bitfit`, `ssf`, a path)."""
    steps: int | None = Field(default=None, ge=0)
    """Steps of the baselines; the supernet's if not given."""
    random_subnets: int = Field(default=0, ge=0)
    """Random subnets with inherited weights whose mean test accuracy the report gives."""


class RunConfig(BaseModel):
    """One run: from a backbone and a data set to a merged model and a report.

    Relative paths that stand in a file (`space.name`, `report.baselines`, `folder:`, `vtab:` and `data.root`,
    `local-dir:` and `backbone.checkpoint`) are taken from the file's folder if they exist there, else from the current
    directory; `export.path`, which is written, always from the file's folder. Those given by `--set` mean the current
    directory.
    """

    model_config = _STRICT
    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of torch on the CPU, in this process and in each worker; torch's own choice here if not given."""
    compile: Literal["auto", "on", "off"] = "auto"
    """On GPUs: training step and candidates compiled and captured; `auto` runs the plain ones, with a warning, where a
    model cannot be compiled, `on` fails there, `off` always runs the plain ones, as CPUs and candidates in float32 do.
    A run may go on with another value: the results are the same but for rounding."""
    backbone: BackboneSection
    data: DataSection
    space: SpaceSection = SpaceSection()
    train: TrainSection = TrainSection()
    search: SearchSection = SearchSection()
    refit: RefitSection = RefitSection()
    export: ExportSection = ExportSection()
    report: ReportSection = ReportSection()

    @classmethod
    def load(cls, path: Path, overrides: Iterable[str] = ()) -> Self:
        """Read a run file; `overrides` are `section.key=value` with TOML values (a bare word is a string).

        Relative paths in it are taken from its folder, as the class says.

        Raises:
            ConfigError: naming the file, the key, what was found and what is allowed.
        """
        data = anchored(read_toml(path, ConfigError), path.parent)
        data.setdefault("name", path.stem)
        return cls.from_dict(data, overrides, source=f"{path} with --set" if overrides else str(path))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], overrides: Iterable[str] = (), source: str = "run") -> Self:
        """The same from a dictionary."""
        merged = copy.deepcopy(dict(data))
        for override in overrides:
            _apply(merged, override)
        return validate(merged, cls, source, ConfigError)

    def configuration(self) -> dict[str, Any]:
        """Everything that the run is asked to do, as JSON: this file, and under `spaces` what its search spaces hold.

        A space with plugins holds the digests of their `sources` as well.

        Raises:
            SearchSpaceError: if a space cannot be read.
        """
        spaces = {"space": self.search_space()} | {
            f"report.baselines.{name}": SearchSpace.load(name) for name in self.report.baselines
        }
        contents = {
            key: space.model_dump(mode="json", exclude={"name", "description"}, exclude_none=True)
            | ({"sources": plugin_sources(space.plugins)} if space.plugins else {})
            for key, space in spaces.items()
        }
        return self.model_dump(mode="json") | {"spaces": contents}

    def digest(self) -> str:
        """SHA-256 of everything that decides the results: two runs of one name must agree on it to be one run."""
        return hashlib.sha256(json.dumps(without_labels(self.configuration()), sort_keys=True).encode()).hexdigest()

    def search_space(self) -> SearchSpace:
        """The search space with the run's overrides applied."""
        return load_space(self.space)


def without_labels(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what does not decide the winner: name, place of the export, early stopping, compilation.

    Nor is there what a version of before did not know, where it has its default: a run of then is found again.
    """
    left_out = {"export": ("path",), "search": ("early_stopping", "early_stopping_lag", "max_failure_share")}
    content = {key: value for key, value in configuration.items() if key not in ("name", "compile")}
    content |= {
        section: {key: value for key, value in content[section].items() if key not in keys}
        for section, keys in left_out.items()
    }
    content["train"] = recipe(content["train"])
    if content["search"].get("mode") == "generational":
        del content["search"]["mode"]
    content["spaces"] = {key: without_later_defaults(space) for key, space in content.get("spaces", {}).items()}
    return content


def recipe(train: Mapping[str, Any]) -> dict[str, Any]:
    """The section `train` without what came later, where it has its default: as it was before there was that."""
    later = {"spectrum_lr": None, "ranks": 1}
    return {key: value for key, value in train.items() if key not in later or value != later[key]}


def load_space(section: SpaceSection) -> SearchSpace:
    """The search space that a section names, with its overrides applied."""
    space = SearchSpace.load(section.name)
    content = space.model_dump(mode="json", exclude_none=True)
    if section.min is not None:
        content["budget"]["min"] = section.min
    if section.max is not None:
        content["budget"]["max"] = section.max
    if section.entangle is not None:
        content["entangle"] = section.entangle
    return SearchSpace.from_dict(content, source=f"section [space] over {section.name}")


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override!r}: expected section.key=value, such as search.trials=200")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.strip().split(".")
    target = data
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override!r}: {section!r} is a value, not a section")
    target[last] = value
