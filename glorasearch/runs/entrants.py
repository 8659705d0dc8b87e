"""Who takes part in a run's race: fixed methods, named points of its space, the best subnets of its search."""

from __future__ import annotations

from collections.abc import Iterable

from glorasearch.adapters import adaptable_layers
from glorasearch.db import TrialStorage
from glorasearch.errors import SearchSpaceError
from glorasearch.race import OWN_SPACE, Entrant, without_repeats
from glorasearch.runs.config import METHOD_KEY
from glorasearch.runs.fixed_methods import bind_method
from glorasearch.runs.paths import space_label
from glorasearch.runs.session import Session
from glorasearch.search.best import best_subnets
from glorasearch.space import BYTES_PER_NUMBER, BoundSpace, SearchSpace
from glorasearch.space.named_points import named_points


def entrants(session: Session) -> list[Entrant]:
    """Everything that is trained in the race, once each, before it is multiplied by rates and starts.

    A run of a fixed method has that method alone.
    """
    own, config = session.bound_space, session.config.race
    alone = session.only_subnet
    if alone is not None:
        return [_of(space_label(session.config.space.name), "method", OWN_SPACE, own, alone)]
    found, _ = methods(session)
    points = [_of(name, "named", OWN_SPACE, own, subnet) for name, subnet in named_points(own).items()]
    taken = {entrant.meaning for entrant in found}
    found += [point for point in points if point.meaning not in taken][: config.named]
    if config.finalists:
        best = best_subnets(
            TrialStorage(session.stored.workspace.database),
            session.name,
            own,
            session.config.search.fitness,
            config.finalists + len(found),
        )
        trials = [_of(f"trial {record.number}", "searched", OWN_SPACE, own, subnet) for record, subnet in best]
        taken = {entrant.meaning for entrant in found}  # the search may have begun with what takes part anyway
        found += [trial for trial in trials if trial.meaning not in taken][: config.finalists]
    return without_repeats(found)


def methods(session: Session) -> tuple[list[Entrant], dict[str, str]]:
    """The fixed methods that take part, and of those that do not: name -> why.

    Raises:
        ConfigError: if a method that the run file names has more than one subnet.
        SearchSpaceError: if one that it names does not fit the backbone.
    """
    layers = list(adaptable_layers(session.backbone))
    chosen = session.config.race.methods is not None
    (_, most), most_bytes = session.bound_space.budget, session.bound_space.max_bytes
    found: list[Entrant] = []
    left_out: dict[str, str] = {}
    for name, space in _spaces(session):
        try:
            bound = bind_method("race.methods", name, space, layers)
        except SearchSpaceError as error:
            if chosen:
                raise
            left_out[name] = f"does not fit the backbone ({str(error).splitlines()[0]})"
            continue
        entrant = _of(name, "method", f"{METHOD_KEY}{name}", bound, bound.largest())
        if most is not None and entrant.parameters > most:
            left_out[name] = f"{entrant.parameters:,} parameters, above the budget of {most:,}"
            continue
        size = BYTES_PER_NUMBER * bound.stored(entrant.subnet)
        if most_bytes is not None and size > most_bytes:
            left_out[name] = f"{size:,} bytes, above the budget of {most_bytes:,}"
            continue
        found.append(entrant)
    return found, left_out


def _spaces(session: Session) -> Iterable[tuple[str, SearchSpace]]:
    spaces = session.stored.spaces.items()
    return ((key.removeprefix(METHOD_KEY), space) for key, space in spaces if key.startswith(METHOD_KEY))


def _of(name: str, kind: str, key: str, space: BoundSpace, subnet: object) -> Entrant:
    return Entrant(name=space_label(name), kind=kind, space_key=key, space=space, subnet=subnet)  # type: ignore[arg-type]
