"""Runs by their names: what they were started with, `--set` included, and a longer training of a finished one.

Training longer is a warm restart (Loshchilov and Hutter 2017): the schedule of the earlier training has ended, its
optimiser's moments are not kept, so the further steps have a warm-up and a decay of their own, from the earlier weights
at the same peak rate, with subnets and images in another order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from glorasearch.errors import ConfigError, RunNotFoundError
from glorasearch.runs.config import RunConfig, differing_parts
from glorasearch.runs.results import PilotResult, Results, TrainResult
from glorasearch.runs.workspace import Workspace
from glorasearch.search.objectives import DEFAULT_OBJECTIVES
from glorasearch.strict_toml import similar_file

SAME: Final = ("seed", "backbone", "data")
"""Parts of a run file that a longer training shares with the earlier one, beside the space."""


def given_config(config: Mapping[str, Any], source: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The run file that a recorded configuration stands for, with `--set` on top.

    Raises:
        ConfigError: if another version has written it, or an override cannot be used.
    """
    content = {key: value for key, value in config.items() if key not in ("spaces", "starts")}
    for name, section in content.items():
        if isinstance(section, dict) and section.get("seed", "") == content["seed"]:
            content[name] = {key: value for key, value in section.items() if key != "seed"}  # it is the run's
    search = dict(content["search"])
    if search.get("sampler") == "nsga2" and search["fitness"] not in search.get("objectives", DEFAULT_OBJECTIVES):
        del search["fitness"]  # the default, which may not be given
    return RunConfig.from_dict(content | {"search": search}, overrides, source)


def remembered(workspace: Workspace, name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration of a run by its name; with more `train.steps` than it was trained, that of a longer one.

    Raises:
        RunNotFoundError: if there is no such run.
        ConfigError: if an override cannot be used.
    """
    try:
        (record,) = workspace.require_runs([name])
    except RunNotFoundError as error:
        raise RunNotFoundError(f"{name!r} is no run file{similar_file(Path(name))}, and there is {error}") from error
    source = f"run {name!r}"
    config = given_config(record.config, source, overrides)
    trained = Results(record.stages, name).train
    if trained is None or config.train.steps <= record.config["train"]["steps"]:
        return config
    if config.point.run is not None:
        raise ConfigError(
            f"train.steps: {source} is a point of run {config.point.run!r}, which was trained; train that longer"
        )
    if record.config["export"]["path"] is not None and config.export.path == record.config["export"]["path"]:
        raise ConfigError(
            f"export.path: a longer training of {source} is a run of its own, and its model needs a place of its own: "
            "give one with --set export.path=<path>"
        )
    own = {"name": f"{name}-steps-{config.train.steps}", "longer": {"run": name}}
    return given_config({**record.config, **own}, source, overrides)


@dataclass(frozen=True)
class Earlier:
    """The run whose supernet is trained on."""

    name: str
    config: Mapping[str, Any]
    train: TrainResult
    pilot: PilotResult | None

    @classmethod
    def find(cls, workspace: Workspace, name: str) -> Earlier:
        """The run of that name.

        Raises:
            RunNotFoundError: if there is none.
            ConfigError: if its training has not finished.
        """
        (record,) = workspace.require_runs([name])
        results = Results(record.stages, name)
        if results.train is None:
            raise ConfigError(
                f"longer.run: the training of run {name!r} has not finished; `glorasearch run {name}` goes on with it"
            )
        return cls(name, record.config, results.train, results.pilot)

    @property
    def steps(self) -> int:
        """The steps that it was to make, those before it included."""
        return int(self.config["train"]["steps"])

    def check(self, configuration: Mapping[str, Any]) -> None:
        """Refuse a training that is not longer, or is of something else.

        Args:
            configuration: of the longer run, as `StoredRun.configuration`.

        Raises:
            ConfigError: naming what differs.
        """
        if configuration["train"]["steps"] <= self.steps:
            raise ConfigError(
                f"train.steps is {configuration['train']['steps']:,}, but run {self.name!r} was trained for "
                f"{self.steps:,}: give more"
            )
        differing = differing_parts(self.config, configuration, SAME)
        if differing:
            raise ConfigError(
                f"{', '.join(differing)}: not as in run {self.name!r}, whose supernet is trained on; put back what has "
                "changed, or leave longer.run out"
            )
