"""A run as its workspace stores it: configuration, results, files. Needs no torch."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from glorasearch.db import RunRecord
from glorasearch.errors import ConfigError, InputError, RunError
from glorasearch.identity import settings_of
from glorasearch.runs.config import RunConfig, configuration_digest
from glorasearch.runs.earlier_runs import recorded_starts, subnet_of_run
from glorasearch.runs.files import EXPORTED, RunFiles, write_report
from glorasearch.runs.intact import export_damage, report_damage
from glorasearch.runs.points import Searched
from glorasearch.runs.remembered import Earlier
from glorasearch.runs.results import Result, Results, TrainedResult, stage_name
from glorasearch.runs.stage_result import StageResult
from glorasearch.runs.unfinished import finish_changes
from glorasearch.runs.workspace import Workspace
from glorasearch.search.starts import load_outside
from glorasearch.space import SearchSpace, Subnet

_log = logging.getLogger(__name__)

COMMANDS = ("train", "search", "race", "refit", "export")
"""The stages that can be run alone."""
_EXPLAINS = {
    "space.name": "spaces.space.",
    "space.min": "spaces.space.budget.min",
    "space.max": "spaces.space.budget.max",
    "space.max_bytes": "spaces.space.budget.max_bytes",
    "space.entangle": "spaces.space.entangle",
}
"""Key of a run file → the part of its search space that differs with it."""


class StoredRun:
    """The records and files of a run, identified by name and configuration."""

    def __init__(self, config: RunConfig, workspace: Workspace) -> None:
        """Nothing is read or created yet."""
        self.config, self.workspace = config, workspace
        self.name = config.name
        self._fresh = self._to_forget = False
        self.runs = workspace.runs
        self.files = RunFiles.of(workspace.run_folder(config.name), config.export.path)

    @cached_property
    def spaces(self) -> dict[str, SearchSpace]:
        """The search spaces, as `RunConfig.load_spaces`; read once, so that what is recorded is what is trained."""
        return self.config.load_spaces()

    @cached_property
    def searched(self) -> Searched | None:
        """The run that this one is a point of, if it is.

        Raises:
            InputError: if there are no points to take from it.
        """
        run = self.config.point.run
        return None if run is None else Searched.find(self.workspace, run)

    @cached_property
    def earlier(self) -> Earlier | None:
        """The run whose supernet this one trains on, if it does.

        Raises:
            InputError: if there is none, or its training has not finished.
        """
        run = self.config.longer.run
        return None if run is None else Earlier.find(self.workspace, run)

    @cached_property
    def starts(self) -> dict[str, Subnet]:
        """Entry → subnet of other runs and of files that the search is to start from.

        Those of other runs are looked up when the run is made, and remembered.
        """
        recorded = {} if self._fresh else recorded_starts(self.runs.get(self.name))

        def of_run(entry: str) -> Subnet:
            return recorded.get(entry) or subnet_of_run(self.workspace, entry, self.name)

        return load_outside(self.config.search.start, of_run)

    def start_over(self) -> None:
        """Remember nothing of an earlier run of this name."""
        self._fresh = self._to_forget = True
        for name in ("starts", "configuration", "digest"):
            self.__dict__.pop(name, None)

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """The full configuration as JSON, including the content of search spaces, and subnets to start from."""
        starts = {entry: {"digest": item.digest, "subnet": item.to_dict()} for entry, item in self.starts.items()}
        return self.config.configuration(self.spaces) | ({"starts": starts} if starts else {})

    @cached_property
    def digest(self) -> str:
        """Digest of what decides the results in the configuration."""
        return configuration_digest(self.configuration)

    def find(self) -> RunRecord | None:
        """The run of this name, if there is one.

        Raises:
            ConfigError: if it has another configuration; the message names the differences.
        """
        known = self.runs.get(self.name)
        if known is None or known.digest == self.digest:
            return known
        found = changes(known.config, self.configuration)
        raise ConfigError(
            f"run {self.name!r} was started with another configuration "
            f"({', '.join(found) or 'defaults that changed with the version'}); "
            f"`glorasearch run {self.name}` goes on as it was started; give this one another name with --set "
            "name=<name>, or start over with --fresh"
        )

    def open(self) -> None:
        """Add the run to the database, or check that the run of its name has the same configuration."""
        if self.find() is None:
            finish_changes(self.workspace)
            self.runs.create(self.name, self.configuration, self.digest)

    def check_free(self, *, fresh: bool = False) -> None:
        """Refuse a run that another process is working on; the lock itself is taken after all checks.

        Raises:
            RunLockedError: naming that process.
            ConfigError: as `find`; not if the run is to start over.
        """
        if self.runs.exists(self.name) if fresh else self.find() is not None:
            with self.runs.lock(self.name):
                pass

    @property
    def results(self) -> Results:
        """The results of the finished stages; none of a run that is about to be forgotten."""
        known = None if self._to_forget else self.runs.get(self.name)
        return Results({} if known is None else known.stages, self.name)

    def require(self, kind: type[Result], part: str | None = None) -> Result:
        """The result of an earlier stage; `part` is the name of a baseline.

        Raises:
            InputError: if that stage has not finished.
        """
        result = self.results.get(kind, part)
        if result is None:
            stage = stage_name(kind, part)
            command = stage if stage in COMMANDS else "run"
            raise InputError(
                f"run {self.name!r} has no finished stage {stage!r}; run `glorasearch {command} RUN_FILE` first"
            )
        return result

    def finished(self, only: str | None = None) -> StageResult | None:
        """The report, or the result of one stage, if it has finished and its files exist.

        None for a stage that trains: only the weight store knows whether its weights still exist.

        Raises:
            ConfigError: as `find`.
        """
        known = self.find()
        if known is None:
            return None
        results = Results(known.stages, self.name)
        needed = ("export", "report") if only is None else (only,)
        if not all(stage in results for stage in needed) or self.damage(needed[0], results) is not None:
            return None
        if only is None:
            self._mend_report(results)
            self._name_lost_weights(results)
        result = results.get(StageResult.types[needed[-1]])
        return None if only is not None and isinstance(result, TrainedResult) else result

    def damage(self, stage: str, results: Results) -> str | None:
        """Why a finished stage has to be run again: what is wrong with its files; weights are not checked."""
        exported, report = results.export, results.report
        if stage == "report" and report is not None:
            found = report_damage(report, self.files.report)
            return None if found is None else f"{self.files.report} is not what the run wrote ({found})"
        if stage != "export" or exported is None:
            return None
        if exported.path != str(self.files.export):
            return f"the model was exported to {exported.path}, and is wanted in {self.files.export}"
        if not exported.tested and "test" in results:
            return "the model was exported before the test, so its card lacks the accuracy"
        found = export_damage(exported, self.files.export)
        return None if found is None else f"the exported model {exported.path} is not what the run wrote ({found})"

    def _mend_report(self, results: Results) -> None:
        """Write `report.json` again if it is not what the database has."""
        found, report = self.damage("report", results), results.report
        if found is None or report is None:
            return
        _log.warning("%s: writing it again", found)
        write_report(report, self.files.report)

    def _name_lost_weights(self, results: Results) -> None:
        """Say which weights are gone from a local store: a finished run needs them no more, but its owner may.

        Only `verify` reads them, and asks an object store.
        """
        store = Path(self.workspace.store_url)
        trained = {stage: result.weights for stage, result in results.items() if isinstance(result, TrainedResult)}
        for stage, digest in trained.items() if store.is_absolute() else ():
            if not any((store / digest).glob("*.safetensors")):
                _log.warning(
                    "the weights of stage %r are not in %s; a finished run does without. `glorasearch verify` says how "
                    "they come back",
                    stage,
                    store,
                )

    def check_export(self) -> None:
        """Refuse to export over anything that is not an export; as `RunFiles.check_export`."""
        earlier, own = self.results.export, tuple[str, ...]()
        if self.files.folder in self.files.export.parents:
            own = EXPORTED
        elif earlier is not None and earlier.path == str(self.files.export):
            own = earlier.files
        self.files.check_export(own)

    def save(self, stage: str, result: StageResult) -> None:
        """Store the result of a finished stage, replacing an earlier one."""
        self.runs.set_stage(self.name, stage, result.to_json())

    def forget(self) -> None:
        """Remove all traces of a run of this name: records, study, folder; weights stay in the weight store.

        Raises:
            RunLockedError: if a live process owns the run.
        """
        self._to_forget = False
        if self.runs.exists(self.name):
            with self.runs.lock(self.name):
                self.runs.delete(self.name)  # first: a kill between these steps leaves no run that claims to be done
        from glorasearch.db import TrialStorage  # Optuna takes a second to import

        storage = TrialStorage(self.workspace.database)
        try:
            study_id = storage.get_study_id_from_name(self.name)
        except KeyError:
            study_id = None
        if study_id is not None:
            with storage.lock_study(self.name):
                storage.delete_study(study_id)
        folder = self.files.folder
        try:
            if folder.exists():
                shutil.rmtree(folder)
        except OSError as error:
            raise RunError(f"{folder} cannot be removed: {error}; remove it by hand") from error


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two configurations of a run, each key with both values.

    The content of a search space (`spaces.*`) is left out where another key of the run file explains it.
    """
    before, after = settings_of(RunConfig, old), settings_of(RunConfig, new)
    in_both = before["spaces"].keys() & after["spaces"].keys()  # `report.baselines` names the others
    for settings in (before, after):
        settings["starts"] = {entry: start["digest"][:12] for entry, start in settings.get("starts", {}).items()}
        settings["spaces"] = {key: content for key, content in settings["spaces"].items() if key in in_both}
    found = differences(before, after)
    explained = tuple(content for key, content in _EXPLAINS.items() if key in found)
    return [f"{key}: {values}" for key, values in found.items() if not key.startswith(explained)]


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Keys with different values → both values; of nested dictionaries the inner keys."""
    found: dict[str, str] = {}
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) or isinstance(after, dict):
            found |= differences(before or {}, after or {}, f"{prefix}{key}.")
        elif before != after:
            found[f"{prefix}{key}"] = (
                "changed" if _has_tables(before, after) else f"{_text(before)} then, {_text(after)} now"
            )
    return found


def _has_tables(*values: Any) -> bool:
    return any(isinstance(item, dict) for value in values if isinstance(value, list) for item in value)


def _text(value: Any) -> str:
    return "not set" if value is None else repr(value)
