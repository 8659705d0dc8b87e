"""Run files: the configuration of a run, as strict TOML with `--set` overrides."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from glorasearch.backbone import BackboneConfig
from glorasearch.bounded import MOST_LEVELS, parse_toml
from glorasearch.config import MOST_STEPS, MOST_THREADS, Compile, Config, ListOf, Role, Seed
from glorasearch.data import DataConfig
from glorasearch.errors import ConfigError, SearchSpaceError
from glorasearch.identity import digest, identity_of
from glorasearch.race import RaceConfig
from glorasearch.runs.fixed_methods import shipped_methods
from glorasearch.runs.paths import anchored
from glorasearch.runs.point_config import PointConfig
from glorasearch.search import SearchConfig
from glorasearch.space import SearchSpace, SpaceConfig
from glorasearch.statistics import METRICS, Metric
from glorasearch.strict_toml import read_toml, validate
from glorasearch.training import TrainingConfig, TrainSection

MOST_NAME: Final = 200
"""Characters of a run's name: a sweep appends that of its task, and files have names of 255 bytes at most."""
METHOD_KEY: Final = "race.methods."
"""Before the name of a fixed method of the race, in the key of its search space."""

TEACHER_STEPS: Final = 1_000
"""Of each teacher, unless the refit has fewer."""


class RefitConfig(Config):
    """Training the winner alone, on train + search."""

    section: ClassVar[str] = "refit"
    steps: int = Field(default=1_500, ge=0, le=MOST_STEPS)
    """Optimiser steps; 0, without a race, keeps the inherited weights."""
    start: Literal["inherited", "fresh"] = "inherited"
    """Weights to start from: those of the supernet, or new ones. After a race it starts as its winner did."""
    lr: float | None = Field(default=None, gt=0, examples=[4e-3])
    """Peak learning rate; the training's if not given. Those of the other groups are scaled by the same factor. After a
    race it is the winner's."""
    warmup_steps: int | None = Field(default=None, ge=0, le=MOST_STEPS, examples=[50])
    """Steps of linear warm-up; the training's if not given."""
    folds: int = Field(default=0, ge=0, le=1_000, examples=[5])
    """Without a race: before the refit, train it once without each of so many parts of the search split, and keep the
    inherited weights if they are right on more images of these parts; 0 does not judge it."""
    teachers: int = Field(default=8, ge=0, le=1_000)
    """Models that teach the winner of a race what to answer on mixed images; 0 trains it on the labels."""
    orders: int = Field(default=4, ge=1, le=1_000)
    """Teachers of one candidate, which differ in their seeds; the best candidates of different methods teach."""
    teacher_steps: int | None = Field(default=None, ge=1, le=MOST_STEPS, examples=[1_000])
    """Optimiser steps of each teacher; 1,000, or as many as the refit has if that is less, if not given."""
    teacher_lr: float = Field(default=3e-3, gt=0)
    """Largest peak learning rate of a teacher; else it has its candidate's."""
    teacher_drop_path: float = Field(default=0.1, ge=0, lt=1)
    """Stochastic depth of the teachers."""
    mixed: int = Field(default=10_000, ge=0, le=10_000_000)
    """Mixed pairs of images that the winner learns from, besides the images themselves."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.folds == 1 or (self.folds and not self.steps):
            raise ValueError(
                f"folds is {self.folds} and steps is {self.steps}; a refit that is judged has at least 2 folds, and "
                "steps; with 0 folds it is not judged"
            )
        if self.teachers % self.orders:
            raise ValueError(
                f"teachers is {self.teachers}, which is no multiple of orders, {self.orders}: each candidate that "
                "teaches has that many"
            )
        return self

    @property
    def steps_of_teachers(self) -> int:
        """Optimiser steps of each teacher."""
        return self.teacher_steps or min(TEACHER_STEPS, self.steps or TEACHER_STEPS)

    def training(self, train: TrainingConfig, *, steps: int | None = None, lr: float | None = None) -> TrainingConfig:
        """The recipe of the refit, given that of the supernet; with other steps or another rate if they are given."""
        return train.for_one_subnet(
            steps=self.steps if steps is None else steps,
            lr=self.lr if lr is None else lr,
            warmup_steps=self.warmup_steps,
        )


class ExportConfig(Config):
    """The merged model."""

    section: ClassVar[str] = "export"
    path: Annotated[str | None, Role.BOOKKEEPING] = Field(default=None, examples=["exported"])
    """Where to write the model; `<workspace>/runs/<name>/export` if not given."""
    tolerance: float = Field(default=1e-3, gt=0)
    """Largest difference of merged and active outputs, relative to the largest output."""


class ReportConfig(Config):
    """What the report compares the winner with; measured on the test split, once."""

    section: ClassVar[str] = "report"
    baselines: ListOf[str] = Field(default=(), examples=[["linear_probe", "lora"]])
    """Search spaces with one subnet, such as `linear_probe` and `lora`, trained on train + search."""
    steps: int | None = Field(default=None, ge=0, le=MOST_STEPS, examples=[6_000])
    """Optimiser steps of the baselines; the supernet's if not given."""
    random_subnets: int = Field(default=0, ge=0, le=100_000)
    """Random subnets with inherited weights to compare with."""
    chance_subnets: int = Field(default=32, ge=0, le=100_000)
    """Random subnets scored on the search split, to say what the best of as many as were tried has by chance; with
    fewer than 8 nothing is said."""
    best_fixed: bool = True
    """Whether the best fixed method of the race, at its best rate, is a baseline, too."""
    metrics: ListOf[Metric] = METRICS
    """What is measured of the winner and the baselines, besides the accuracy."""
    resamples: int = Field(default=1_000, ge=0, le=100_000)
    """Resamples of the test images for the winner's intervals; with 0 only `top1` and `top5` have any, Wilson's."""

    def training(self, train: TrainingConfig, lr: float | None = None) -> TrainingConfig:
        """The recipe of the baselines, given that of the supernet; at another rate if one is given."""
        return train.for_one_subnet(steps=train.steps if self.steps is None else self.steps, lr=lr)


class RunConfig(Config):
    """One run: from a backbone and a data set to a merged model and a report.

    Relative paths in a file (`space.name`, `report.baselines`, `race.methods`, `folder:`, `vtab:`, `npz:`, `data.root`,
    `local-dir:` and `backbone.checkpoint`) are taken from the file's folder if they exist there, else from the current
    directory; `export.path`, which is written, always from the file's folder. Those given by `--set` are relative to
    the current directory.
    """

    name: Annotated[str, Role.BOOKKEEPING] = Field(
        default="run", max_length=MOST_NAME, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    )
    """Name of the run, of its study and of its folder in the workspace."""
    seed: Seed = 0
    """Seed of everything that is random, unless a section sets its own."""
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`."""
    threads: int | None = Field(default=None, ge=1, le=MOST_THREADS, examples=[4])
    """Threads of torch on the CPU, here and in each worker; torch's own choice if not given."""
    compile: Annotated[Compile, Role.BOOKKEEPING] = "auto"
    """On GPUs, compile and capture training step and candidates. `auto` runs the plain ones, with a warning, where a
    model cannot be compiled, `on` fails there, `off` always runs the plain ones, as CPUs and candidates in float32 do.
    A run may be continued with another value: results are the same but for rounding."""
    backbone: BackboneConfig
    """The frozen pretrained model."""
    data: DataConfig
    """The images, and how they are split."""
    space: SpaceConfig = SpaceConfig()
    """What is searched."""
    train: TrainSection = TrainSection()
    """The supernet, on the training split."""
    search: SearchConfig = SearchConfig()
    """The search for the best subnet, on the search split."""
    race: RaceConfig = RaceConfig()
    """The race of finalists and fixed methods, each trained alone and judged out of fold."""
    refit: RefitConfig = RefitConfig()
    """The winner alone, on train + search."""
    export: ExportConfig = ExportConfig()
    """The merged model."""
    report: ReportConfig = ReportConfig()
    """What the winner is compared with on the test split."""
    point: PointConfig = PointConfig()
    """Another run's trial, refitted and exported instead of searching anew."""

    @model_validator(mode="after")
    def _check_refit(self) -> Self:
        if self.race.enabled and not self.refit.steps:
            raise ValueError(
                "refit.steps is 0, which keeps the supernet's weights, but the winner of a race is trained alone; set "
                "refit.steps, or race.enabled = false"
            )
        if self.race.enabled and self.refit.folds:
            raise ValueError(
                f"refit.folds is {self.refit.folds}, which judges the refit of a run without a race; a race judges by "
                "race.folds: leave refit.folds out, or set race.enabled = false"
            )
        return self

    @model_validator(mode="after")
    def _check_point(self) -> Self:
        if self.point.run == self.name:
            raise ValueError(f"a point of run {self.name!r} needs a name of its own")
        return self

    @model_validator(mode="after")
    def _hand_down_the_seed(self) -> Self:
        """Sections without a seed use the run's."""
        for name, part in self:
            if isinstance(part, Config) and "seed" in type(part).model_fields and "seed" not in part.model_fields_set:
                seeded = part.model_copy(update={"seed": self.seed})
                seeded.model_fields_set.discard("seed")  # so that another seed of the run replaces it
                self.__dict__[name] = seeded
        return self

    @classmethod
    def load(cls, path: Path, overrides: Iterable[str] = ()) -> Self:
        """Read a run file; `overrides` are `section.key=value` with TOML values (a bare word is a string).

        Relative paths in it are taken from its folder, as the class says. A run without a name has the file's.

        Raises:
            ConfigError: naming the file, the key, what was found and what is allowed.
        """
        data = anchored(read_toml(path, ConfigError), path.parent)
        data.setdefault("name", run_name(path))
        return cls.from_dict(data, overrides, source=f"{path} with --set" if overrides else str(path))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], overrides: Iterable[str] = (), source: str = "run") -> Self:
        """As `load`, from a dictionary; `source` names its origin in messages."""
        merged = copy.deepcopy(dict(data))
        for override in overrides:
            _apply(merged, override)
        return validate(merged, cls, source, ConfigError)

    def to_dict(self) -> dict[str, Any]:
        """What was given, as JSON, without the defaults: `from_dict` makes the same configuration from it."""
        return self.model_dump(mode="json", exclude_unset=True)

    def load_spaces(self) -> dict[str, SearchSpace]:
        """The search spaces by the keys that name them: `space`, `report.baselines.<name>`, `race.methods.<name>`.

        Raises:
            SearchSpaceError: if a space cannot be read.
        """
        try:
            own = self.space.load()
        except SearchSpaceError as error:
            raise SearchSpaceError(f"space: {error}") from error
        baselines = {f"report.baselines.{name}": _space("report.baselines", name) for name in self.report.baselines}
        methods: dict[str, SearchSpace] = {}
        if self.race.enabled and not own.is_fixed:
            given = self.race.methods
            methods = shipped_methods() if given is None else {name: _space("race.methods", name) for name in given}
        return {"space": own} | baselines | {f"{METHOD_KEY}{name}": space for name, space in methods.items()}

    def configuration(self, spaces: Mapping[str, SearchSpace]) -> dict[str, Any]:
        """Everything that the run is asked to do, as JSON: all fields, and under `spaces` what its search spaces hold.

        Args:
            spaces: from `load_spaces`.
        """
        return self.model_dump(mode="json") | {"spaces": {key: space.identity() for key, space in spaces.items()}}


def _space(key: str, name: str) -> SearchSpace:
    """The search space that a key of the run file names.

    Raises:
        SearchSpaceError: naming the key, if it cannot be read.
    """
    try:
        return SearchSpace.load(name)
    except SearchSpaceError as error:
        raise SearchSpaceError(f"{key}: {error}") from error


def run_name(path: Path) -> str:
    """The name of a run whose file gives none: that of the file, with `-` for what is not allowed in it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:128] or "run"


def configuration_digest(configuration: Mapping[str, Any]) -> str:
    """SHA-256 of what decides the results in `RunConfig.configuration()`: runs that are the same run agree in it."""
    return digest(identity_of(RunConfig, configuration))


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override!r}: expected section.key=value, such as search.trials=200")
    try:
        value = parse_toml(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    except ValueError as error:
        raise ConfigError(f"--set {_brief(override)}: {error}") from error
    *sections, last = key.strip().split(".")
    if len(sections) > MOST_LEVELS:
        raise ConfigError(f"--set {_brief(override)}: it is nested more than {MOST_LEVELS} levels deep")
    target = data
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override!r}: {section!r} is a value, not a section")
    target[last] = value


def _brief(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
