"""What makes two runs, or two trainings, the same: the canonical JSON of a configuration, and its digest.

The identity of a configuration holds what decides the results and differs from its default: fields marked
`Role.BOOKKEEPING` do not count, and a default that is written out changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from glorasearch.config import Config, Role

Json = dict[str, Any]
_NO_INFLUENCE = (Role.BOOKKEEPING,)


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON: keys in order, so that equal contents have equal digests."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def identity(config: Config) -> Json:
    """What decides the results in a configuration and differs from its default, as JSON."""
    return identity_of(type(config), config.model_dump(mode="json"))


def identity_of(model: type[Config], content: Mapping[str, Any], without: Collection[Role] = _NO_INFLUENCE) -> Json:
    """`identity` of a configuration that is stored as JSON.

    Args:
        model: its class; keys that the class does not have are kept.
        content: the configuration.
        without: fields of these roles do not count.
    """
    return _select(model, content, without, {}, defaults=False)


def settings_of(model: type[Config], content: Mapping[str, Any], without: Collection[Role] = _NO_INFLUENCE) -> Json:
    """As `identity_of`, defaults included: for people to read."""
    return _select(model, content, without, {}, defaults=True)


def _select(
    model: type[Config],
    content: Mapping[str, Any],
    without: Collection[Role],
    run: Mapping[str, Any],
    *,
    defaults: bool,
) -> Json:
    found: Json = {}
    for name, value in content.items():
        field = model.model_fields.get(name)
        roles = set() if field is None else {item for item in field.metadata if isinstance(item, Role)}
        section = None if field is None else section_class(field)
        if roles.intersection(without):
            continue
        if section is not None:
            inner = _select(section, value, without, content, defaults=defaults)
            if inner or defaults:
                found[name] = inner
        elif Role.SEED in roles and name in run:
            if value != run[name]:  # the default of a section's seed is the run's
                found[name] = value
        elif defaults or field is None or field.is_required() or value != _default(field):
            found[name] = value
    return found


def section_class(field: FieldInfo) -> type[Config] | None:
    """The class of a field that is a configuration itself; None of any other field."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Config) else None


def _default(field: FieldInfo) -> Any:
    return to_jsonable_python(field.get_default(call_default_factory=True))
