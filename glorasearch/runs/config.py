"""Run files: the configuration of a run, as strict TOML with `--set` overrides."""

from __future__ import annotations

import copy
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Field, model_validator

from glorasearch.backbone import BackboneConfig
from glorasearch.config import MOST_THREADS, Compile, Config, Role, Seed
from glorasearch.data import DataConfig
from glorasearch.errors import ConfigError, SearchSpaceError
from glorasearch.identity import digest, identity_of
from glorasearch.race import RaceConfig
from glorasearch.runs.fixed_methods import shipped_methods
from glorasearch.runs.log_config import LogConfig
from glorasearch.runs.longer_config import LongerConfig
from glorasearch.runs.overrides import apply_override
from glorasearch.runs.paths import anchored
from glorasearch.runs.point_config import PointConfig
from glorasearch.runs.refit_config import RefitConfig
from glorasearch.runs.report_config import ExportConfig, ReportConfig
from glorasearch.runs.task_rules import of_task, task_fault
from glorasearch.search import SearchConfig
from glorasearch.space import SearchSpace, SpaceConfig
from glorasearch.strict_toml import read_toml, validate
from glorasearch.training import TrainSection

MOST_NAME: Final = 200
"""Characters of a run's name: a sweep appends that of its task, and files have names of 255 bytes at most."""
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
METHOD_KEY: Final = "race.methods."
"""Before the name of a fixed method of the race, in the key of its search space."""


class RunConfig(Config):
    """One run: from a backbone and a data set to a merged model and a report.

    Relative paths in a file (`space.name`, `report.baselines`, `race.methods`, `folder:`, `vtab:`, `npz:`, `data.root`,
    `local-dir:` and `backbone.checkpoint`) are taken from the file's folder if they exist there, else from the current
    directory; `export.path`, which is written, always from the file's folder. Those given by `--set` are relative to
    the current directory.
    """

    name: Annotated[str, Role.BOOKKEEPING] = Field(default="run", max_length=MOST_NAME, pattern=NAME_PATTERN)
    """Name of the run, of its study and of its folder in the workspace."""
    seed: Seed = 0
    """Seed of everything that is random, unless a section sets its own."""
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`."""
    threads: int | None = Field(default=None, ge=1, le=MOST_THREADS, examples=[4])
    """Threads of torch on the CPU, here and in each worker; torch's own choice if not given."""
    compile: Annotated[Compile, Role.BOOKKEEPING] = "auto"
    """On GPUs, compile and capture training step and candidates. `auto` runs the plain ones, with a warning, where a
    model cannot be compiled; `on` fails there; `off` always runs the plain ones, as CPUs and candidates in float32 do.
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
    log: LogConfig = LogConfig()
    """Where the curves of the run go."""
    point: PointConfig = PointConfig()
    """Another run's trial, refitted and exported instead of searching anew."""
    longer: LongerConfig = LongerConfig()
    """An earlier run whose supernet is trained on."""

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
    def _check_task(self) -> Self:
        self.__dict__["search"], self.__dict__["race"] = of_task(self.data.task, self.search, self.race)
        if fault := task_fault(self.data.task, self.train, self.search, self.race, self.report):
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _check_point(self) -> Self:
        if self.name in (self.point.run, self.longer.run):
            raise ValueError(f"what takes over from run {self.name!r} needs a name of its own")
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
            apply_override(merged, override)
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
    """The name of a run whose file gives none: that of the file without accents, with `-` for what is not allowed."""
    letters = "".join(sign for sign in unicodedata.normalize("NFKD", path.stem) if not unicodedata.combining(sign))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", letters).lstrip("._-")[:128] or "run"


def differing_parts(ours: Mapping[str, Any], theirs: Mapping[str, Any], parts: Iterable[str]) -> list[str]:
    """Those of some parts in which two results of `RunConfig.configuration()` differ in what decides results.

    `space` is among them if their search spaces differ.
    """
    first, second = (identity_of(RunConfig, content) for content in (ours, theirs))
    found = [part for part in parts if first.get(part) != second.get(part)]
    return found if ours["spaces"]["space"] == theirs["spaces"]["space"] else [*found, "space"]


def configuration_digest(configuration: Mapping[str, Any]) -> str:
    """SHA-256 of what decides the results in `RunConfig.configuration()`: runs that are the same run agree in it."""
    return digest(identity_of(RunConfig, configuration))
