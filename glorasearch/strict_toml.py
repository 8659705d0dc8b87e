"""TOML that enters: read, checked strictly by a pydantic model, with errors that name file, key, finding and remedy."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from glorasearch.errors import InputError

Model = TypeVar("Model", bound=BaseModel)

_EXPECTED = {
    "tuple_type": "a list, in [brackets] (of tables: [[double brackets]])",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "too_short": "a list with at least one entry",
}
"""What pydantic's types of errors mean to who writes TOML."""


def read_toml(path: Path, error: type[InputError]) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        InputError: (of the given class) if the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as cause:
        raise error(f"{path}: cannot be read: {cause.strerror}") from cause
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise error(f"{path}: not valid TOML: {cause}") from cause


def validate(data: Mapping[str, Any], model: type[Model], source: str, error: type[InputError]) -> Model:
    """Check `data` by `model`; `source` names the file in messages."""
    try:
        return model.model_validate(data)
    except ValidationError as cause:
        lines = [_describe(item, model) for item in cause.errors(include_url=False)]
        raise error("\n".join(f"{source}: {line}" for line in lines)) from cause


def _describe(item: Any, model: type[BaseModel]) -> str:
    location: Sequence[str | int] = item["loc"]
    key = _key(location)
    if item["type"] == "extra_forbidden":
        allowed = sorted(_fields_at(model, location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"unknown key {key!r}{hint}; allowed are {', '.join(allowed)}"
    if item["type"] == "missing":
        return f"key {key!r} is missing"
    if item["type"] == "value_error":
        return f"key {key!r}: {item['ctx']['error']}" if key else str(item["ctx"]["error"])
    wanted = _EXPECTED.get(item["type"])
    if wanted is not None:
        return f"key {key!r}: expected {wanted}, found {item['input']!r}"
    return f"key {key!r}: {item['msg']}, found {item['input']!r}"


def _key(location: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Names of the keys that are allowed at a place of the model."""
    current: type[BaseModel] = model
    for part in location:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part)
        inner = _inner_model(field.annotation) if field is not None else None
        if inner is None:
            return []
        current = inner
    return [field.alias or name for name, field in current.model_fields.items()]


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None
