"""Which subnets a search starts from: named points, trials of earlier runs, files; `[search] start` lists them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from glorasearch.bounded import read_json_file, user_path
from glorasearch.errors import ConfigError, SearchSpaceError
from glorasearch.search.config import SearchConfig
from glorasearch.space import BoundSpace, Subnet, named_points

NAMED: Final = "named"
"""The entry that stands for all named points."""
RUN: Final = "run:"
"""Begins entries such as `run:NAME` (what that run exports) and `run:NAME/TRIAL`."""
_WITHIN: Final = (("winner", "subnet"), ("glorasearch", "subnet"))
"""Where the files that the product writes have a subnet: `report.json`, and the `config.json` of an export."""


def is_outside(entry: str) -> bool:
    """Whether an entry means a subnet that is kept elsewhere: of another run, or in a file."""
    return entry.startswith(RUN) or _is_file(entry)


def load_outside(entries: Iterable[str], of_run: Callable[[str], Subnet] | None = None) -> dict[str, Subnet]:
    """Entry → subnet, for those entries whose subnets are kept elsewhere; whether they fit is not looked at.

    Args:
        entries: of `[search] start`.
        of_run: gives the subnet of an entry `run:...`; without it there are no other runs.

    Raises:
        InputError: if a run or a file has no such subnet.
    """
    found: dict[str, Subnet] = {}
    for entry in filter(is_outside, entries):
        if not entry.startswith(RUN):
            found[entry] = _of_file(entry)
        elif of_run is not None:
            found[entry] = of_run(entry)
        else:
            raise ConfigError(f"search.start: {entry!r}: there are no runs here; give the path of its report.json")
    return found


def choose_starts(space: BoundSpace, config: SearchConfig, outside: Mapping[str, Subnet]) -> dict[str, Subnet]:
    """Name → subnet of the first trials, in their order.

    First whatever `start` lists by itself, in its order; then, if it lists `named`, named points in their order until
    half of a generation is taken. Of several entries for one subnet the first counts.

    Args:
        space: the subnets must belong to it, and lie within its budget.
        config: has the list, and the size of a generation.
        outside: from `load_outside`.

    Raises:
        ConfigError: if an entry is unknown or does not fit; the message says why.
    """
    points = named_points(space)
    found: dict[str, Subnet] = {}
    for entry in config.start:
        if entry == NAMED:
            continue
        subnet = points.get(entry) if entry not in outside else _fitting(space, entry, outside[entry])
        if subnet is None:
            raise _unknown(entry, space, points)
        name = Path(entry).name if _is_file(entry) and Path(entry).name not in found else entry
        if subnet not in found.values():
            found[name] = subnet
    if len(found) > config.population:
        raise ConfigError(
            f"search.start lists {len(found)} subnets, more than the {config.population} trials of a generation; "
            "list fewer, or raise search.population"
        )
    if NAMED in config.start:
        for name, subnet in points.items():
            if len(found) >= config.population // 2:
                break
            if subnet not in found.values():
                found[name] = subnet
    return found


def closest(subnet: Subnet, starts: Mapping[str, Subnet]) -> tuple[str | None, float | None]:
    """The start that a subnet shares most genes with, and their share; None and None if there are no starts."""
    shares = {
        name: sum(subnet[gene] == choice for gene, choice in start.items()) / len(start)
        for name, start in starts.items()
    }
    return max(shares.items(), key=lambda item: item[1], default=(None, None))


def _is_file(entry: str) -> bool:
    return entry.endswith(".json") and not entry.startswith(RUN)


def _of_file(path: str) -> Subnet:
    """The subnet in a JSON file: of its own, of a report or of an exported model."""
    try:
        content: Any = read_json_file(user_path(path))
    except OSError as error:
        raise ConfigError(f"search.start: {path!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"search.start: {path!r} is not JSON: {error}") from error
    for outer, inner in _WITHIN:
        part = content.get(outer) if isinstance(content, dict) else None
        content = part[inner] if isinstance(part, dict) and inner in part else content
    try:
        return Subnet.from_dict(content)
    except SearchSpaceError as error:
        raise ConfigError(
            f"search.start: {path!r} holds no subnet: {error}; expected are layer → support tensor → choice, a "
            "report.json, or the config.json of an exported model"
        ) from error


def _fitting(space: BoundSpace, entry: str, subnet: Subnet) -> Subnet:
    """The subnet with exactly the genes of the space.

    Raises:
        ConfigError: if it does not belong to the space, or lies outside the budget.
    """
    try:
        space.check(subnet)
    except SearchSpaceError as error:
        raise ConfigError(f"search.start: {entry!r} does not fit: {error}") from error
    if not space.fits(subnet):
        least, most = space.limits
        limit = f"at least {least:,}" if most is None else f"{least:,} to {most:,}"
        what, keys = "trainable parameters", "space.min and space.max"
        if space.max_bytes is not None:
            what, keys = "numbers in its adapters", "space.min, space.max and space.max_bytes, 4 bytes a number"
        raise ConfigError(
            f"search.start: {entry!r} has {space.counted(subnet):,} {what}; the budget is {limit}. Leave it out, or "
            f"change {keys}"
        )
    return space.subnet(subnet[gene.key] for gene in space.genes)


def _unknown(entry: str, space: BoundSpace, points: Mapping[str, Subnet]) -> ConfigError:
    near = difflib.get_close_matches(entry, points, n=3, cutoff=0.3) or list(points)[:3]
    return ConfigError(
        f"search.start: {entry!r} is no named point of space {space.name} within its budget; the nearest are "
        f"{', '.join(map(repr, near)) or 'none'}, and `glorasearch space` lists them all. Other entries are {NAMED!r} "
        f"(all of them), '{RUN}NAME', '{RUN}NAME/TRIAL', and the path of a .json file"
    )
