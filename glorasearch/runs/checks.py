"""The checks before a run starts, the cheapest first."""

from __future__ import annotations

import copy

import torch

from glorasearch.data import SearchSplit, TrainSplit
from glorasearch.errors import BackboneError, ConfigError, ExportError, InputError, SearchSpaceError
from glorasearch.export import BackboneFacts, check_exportable
from glorasearch.export.units import check_units
from glorasearch.race import OF_CLASSES
from glorasearch.runs.cautions import UNTRAINED, data_cautions, patience_caution
from glorasearch.runs.entrants import methods
from glorasearch.runs.room import check_room
from glorasearch.runs.seen import check_data
from glorasearch.runs.session import Session
from glorasearch.runs.stage_result import StageResult
from glorasearch.runs.stages.point import check_point
from glorasearch.runs.stored_run import COMMANDS
from glorasearch.tasks.kinds import words_of
from glorasearch.training.patience import hold_out


def check_run(session: Session, only: str | None) -> None:
    """Refuse what cannot work, before anything is started or forgotten.

    Raises:
        InputError: of the kind that fits.
        WeightStoreError: if the weight store cannot be reached.
    """
    config, resources = session.config, session.resources
    config.log.check()
    _ = session.stored.digest  # reads the search spaces
    _ = session.device
    check_point(session)
    _check_longer(session)
    resources.check_ranks(config.train.ranks)
    session.store.check(write=only not in ("search", "export"))
    if only is not None:
        _check_earlier_stages(session, only)
    if only in (None, "export"):
        session.stored.check_export()
    if "train" not in session.stored.results or session.fresh:
        _say_cautions(session)
    uses_workers = resources.trains_elsewhere(config.train.ranks) or session.only_subnet is None
    if not resources.local and uses_workers:
        resources.check(torch.cuda.device_count())
    _check_supernet(session, only)
    _ = session.baselines
    _ = session.starts
    if config.race.enabled:
        _check_race(session)
    _check_counts(session)
    check_data(session)  # reads the images
    _check_copies(session)
    if config.train.patience:
        _, judged = hold_out(session.data.train, config.train.at(1.0))
        words = words_of(session.config.data.task)
        if judged is not None and (caution := patience_caution(len(judged), words)):
            session.progress.say(caution)


def _check_counts(session: Session) -> None:
    """Refuse what the numbers of images do not allow."""
    config, source = session.config, session.source
    if "auc" in config.search.metrics and sum(count > 0 for count in source.by_class["search"]) < 2:
        key = "objectives" if "auc" in config.search.objectives else "fitness"
        raise ConfigError(
            f"search.{key} asks for 'auc', but all images of the search split have one label: there is no area under "
            "the curve; take another, or a larger split"
        )
    if config.refit.folds > source.search:
        raise ConfigError(
            f"refit.folds is {config.refit.folds}, but the search split has {source.search} images; allowed "
            "are 2 to as many, or 0"
        )


def _check_copies(session: Session) -> None:
    """Refuse fewer different images than folds: an image and its copies are in one."""
    race, refit, data = session.config.race, session.config.refit, session.data
    _check_different("race.folds", race.folds if race.enabled else 0, data.train_and_search(), "train + search")
    _check_different("refit.folds", refit.folds, data.search, "the search split")


def _check_different(key: str, folds: int, split: TrainSplit | SearchSplit, images: str) -> None:
    different = len(set(split.first_equals()))
    if different < folds:
        raise ConfigError(
            f"{key} is {folds}, but of the {len(split)} images of {images} only {different} are different, and "
            f"an image and its copies are in one fold; allowed are 2 to {different}"
        )


def _check_longer(session: Session) -> None:
    """Refuse a longer training that the earlier run cannot give."""
    if session.config.longer.run is None or ("train" in session.stored.results and not session.fresh):
        return
    earlier = session.stored.earlier
    assert earlier is not None
    if session.config.point.run is not None:
        raise ConfigError("point.run and longer.run are set: a point is not trained; leave one of them out")
    earlier.check(session.stored.configuration)
    if earlier.train.weights not in session.store:
        raise InputError(
            f"longer.run: the weights of run {earlier.name!r} are not in the weight store {session.store.name}; "
            f"`glorasearch train {earlier.name}` makes them again"
        )


def _check_earlier_stages(session: Session, only: str) -> None:
    if only not in COMMANDS:
        raise InputError(f"there is no stage {only!r} to run alone; known are {', '.join(COMMANDS)}")
    if only == "race" and not session.config.race.enabled:
        raise InputError("race.enabled is false: this run has no race; set it, under another name of the run")
    for name in COMMANDS[: COMMANDS.index(only)]:
        if name == "race" and not session.config.race.enabled:
            continue
        if session.fresh:
            raise InputError(
                f"--fresh would forget stage {name!r}, which {only!r} needs; start over with "
                "`glorasearch train --fresh`"
            )
        session.require(StageResult.types[name])


def _say_cautions(session: Session) -> None:
    """Say what the numbers of the run will not be able to show, while it can still be changed."""
    if not session.config.train.steps:
        session.progress.say(UNTRAINED)
    source = session.source
    images, words = {"search": source.search, "test": source.test}, words_of(session.config.data.task)
    for caution in data_cautions(source.class_names, **source.by_class, images=images, words=words):
        session.progress.say(caution)


def _check_supernet(session: Session, only: str | None) -> None:
    """Refuse device, data, backbone, space and budget that do not fit together."""
    supernet = session.supernet()
    spec = session.inputs.override(size=session.config.data.size)
    drawn = torch.rand((2, spec.channels, spec.height, spec.width), generator=torch.Generator().manual_seed(0))
    images = drawn.to(session.device)  # the data's are not read before all else is known to be right
    supernet.check_reached(images)
    _check_output(session, images)
    if not words_of(session.config.data.task).right_or_wrong:
        check_units(copy.deepcopy(session.backbone), images)
    check_room(session, supernet, only)
    session.give_back(supernet)
    for notice in session.bound_space.notices:
        session.progress.say(f"space {session.space.name}: {notice}")
    gained = supernet.gains_bias()
    if gained:
        facts = BackboneFacts.from_model(session.backbone)
        try:
            check_exportable(facts.architecture, facts.model_args, gained)
        except ExportError as error:
            raise SearchSpaceError(f"search space {session.space.name}: {error}") from error


def _check_output(session: Session, images: torch.Tensor) -> None:
    """Refuse a backbone whose output is not one number a class."""
    with torch.no_grad():
        output = session.backbone(images)
    wanted = (len(images), len(session.source.class_names))
    found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if found != wanted:
        args = ", ".join(f"{key} = {value!r}" for key, value in session.config.backbone.args.items()) or "not set"
        raise BackboneError(
            f"backbone {session.config.backbone.name!r}: its output for {len(images)} images is {found}; that of "
            f"a classifier is {wanted}, a number a class. backbone.args are {args}: leave out what "
            "changes the head or the pooling"
        )


def _check_race(session: Session) -> None:
    """Refuse methods that do not fit, a race of nobody, and fewer images than folds; say where a search is in vain."""
    race = session.config.race
    if session.only_subnet is None:
        found, _ = methods(session)
        if not (found or race.finalists or race.named):
            raise ConfigError(
                "race: nobody takes part: race.finalists and race.named are 0, and there is no fixed method that fits; "
                "let one of them take part, or set race.enabled = false"
            )
        inherited = race.named and "inherited" in race.starts
        if not race.finalists and not inherited and session.config.train.steps:
            session.progress.say(
                "race.finalists is 0: nothing that the search finds takes part in the race, so supernet and search "
                "decide nothing of what is exported; train.steps = 0 and search.trials = 1 save them"
            )
    fitness = session.config.search.fitness
    if fitness in OF_CLASSES and "judge" not in race.model_fields_set:
        session.progress.say(
            f'search.fitness is {fitness}, and the race is judged by {race.judge}; race.judge = "{fitness}" judges it '
            "alike"
        )
    images, folds = session.source.train + session.source.search, race.folds
    if images < folds:
        raise ConfigError(f"race.folds is {folds}, but train + search have {images} images; allowed are 2 to {images}")
