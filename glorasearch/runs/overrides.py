"""What `--set` changes in a run file."""

from __future__ import annotations

import tomllib
from typing import Any

from glorasearch.bounded import MOST_LEVELS, parse_toml
from glorasearch.errors import ConfigError


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set in `data` what `override`, `section.key=value` with a TOML value (a bare word is a string), says.

    Raises:
        ConfigError: saying what was given.
    """
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
