"""Strict TOML: read, checked by a pydantic model, with errors that name file, key, finding and what is allowed."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from glorasearch.bounded import read_toml_file
from glorasearch.errors import InputError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)

MOST_LINES: Final = 20
"""Of a message."""
MOST_BITS: Final = 64
"""Of a whole number: databases hold no other."""
_SHOWN_BITS: Final = 1_024
"""Python writes none of more than 4,300 digits."""


class _Found(reprlib.Repr):
    """Shows values of any size in a line."""

    def repr_int(self, number: int, level: int) -> str:
        if number.bit_length() > _SHOWN_BITS:
            return f"a whole number of {number.bit_length():,} bits"
        return super().repr_int(number, level)


_found: Final = _Found()
_found.maxstring = _found.maxother = 200
_found.maxlong = 40
_found.maxlist = _found.maxtuple = _found.maxdict = 12


def brief(value: Any) -> str:
    """A value as messages show it."""
    return _found.repr(value)


_EXPECTED = {
    "tuple_type": "a list, in [brackets] (of tables: [[double brackets]])",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "string_type": "a string",
    "string_pattern_mismatch": "a string that matches {pattern}",
    "string_too_short": "a string that is not empty",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "literal_error": "{expected}",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:,.12g}",
    "string_too_long": "a string of at most {max_length} characters",
    "less_than": "less than {lt}",
    "too_short": "a list that has {min_length} or more entries",
    "too_long": "a list that has at most {max_length} entries",
}
"""Pydantic's error types in TOML terms; names in braces are filled in from the error's context."""


def read_toml(path: Path, error: type[InputError]) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        InputError: (of the given class) if the file cannot be read or is not TOML.
    """
    try:
        return read_toml_file(path)
    except OSError as cause:
        raise error(f"{path}: cannot be read: {cause.strerror}{similar_file(path)}") from cause
    except ValueError as cause:
        raise error(f"{path}: not valid TOML: {cause}") from cause


def similar_file(path: Path) -> str:
    """A hint at the TOML file of the same folder whose name is most like one that is not there; empty if none is."""
    there = {} if path.exists() else {other.stem: other for other in path.parent.glob("*.toml")}
    near = difflib.get_close_matches(path.stem, there, n=1)
    return f" (did you mean {str(there[near[0]])!r}?)" if near else ""


def validate(data: Mapping[str, Any], model: type[Model], source: str, error: type[InputError]) -> Model:
    """Check `data` by `model`; `source` names the file in messages.

    Raises:
        InputError: (of the given class) with a line for everything that is wrong.
    """
    try:
        fault = _first(data, _has_nul)
        if fault is not None:
            raise error(f"{source}: key {fault[0]!r}: a text must not have the character NUL, which no path has")
        checked = model.model_validate(data)
        fault = _first(data, _is_too_long)
        if fault is not None:
            raise error(f"{source}: key {fault[0]!r}: expected at most {MOST_BITS} bits, found {brief(fault[1])}")
        return checked
    except ValidationError as cause:
        raise error("\n".join(f"{source}: {line}" for line in explain(cause, model))) from cause


def _has_nul(value: Any) -> bool:
    """Whether a value is a text with a NUL, at which operating system and databases stop reading."""
    return isinstance(value, str) and "\0" in value


def _is_too_long(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > MOST_BITS


def _first(value: Any, is_wrong: Callable[[Any], bool], key: str = "") -> tuple[str, Any] | None:
    """Key and value of the first of all values that is wrong; None if none is."""
    if isinstance(value, Mapping):
        parts = [(f"{key}.{name}".lstrip("."), item) for name, item in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [(key, item) for item in value]
    else:
        return (key, value) if is_wrong(value) else None
    return next((found for name, item in parts if (found := _first(item, is_wrong, name)) is not None), None)


def explain(error: ValidationError, model: type[BaseModel], section: str = "") -> list[str]:
    """A line for everything that is wrong: the key, what was found, what is allowed.

    Args:
        error: of the model.
        model: what was validated.
        section: where its keys stand in the file.
    """
    lines: dict[tuple[int | str, ...], str] = {}
    items = error.errors(include_url=False)
    for item in items[:MOST_LINES]:
        place = _without_alternative(item["loc"], model)
        lines[place] = _describe(item, place, model, section, before=lines.get(place))
    more = len(items) - MOST_LINES
    return [*lines.values(), *([f"{more} more things are wrong"] if more > 0 else [])]


def _describe(
    item: ErrorDetails,
    location: tuple[int | str, ...],
    model: type[BaseModel],
    section: str,
    before: str | None = None,
) -> str:
    """A line for one error; `before` is the line of another alternative that the same value is not."""
    kind, context = item["type"], item.get("ctx", {})
    key = _key((section, *location) if section else location)
    if kind == "extra_forbidden":
        allowed = sorted(_fields_at(model, location[:-1]))
        hint = _elsewhere(model, str(location[-1])) or did_you_mean(str(location[-1]), allowed)
        return f"unknown key {key!r}{hint}; allowed are {', '.join(allowed)}"
    if kind == "missing":
        return f"key {key!r} is missing"
    if kind == "value_error":
        return f"key {key!r}: {context['error']}" if key else str(context["error"])
    wanted = _EXPECTED.get(kind)
    if wanted is not None:
        other = "" if before is None else before.partition(": expected ")[2].rpartition(", found ")[0] + " or "
        return f"key {key!r}: expected {other}{wanted.format_map(context)}, found {brief(item['input'])}"
    return f"key {key!r}: {item['msg']}, found {brief(item['input'])}"


def _elsewhere(model: type[BaseModel], name: str) -> str:
    """A hint where a section has the key that was looked for in another place."""
    sections = {section: _inner_model(field.annotation) for section, field in model.model_fields.items()}
    there = [f"{section}.{name}" for section, inner in sections.items() if inner and name in inner.model_fields]
    return f" (did you mean {' or '.join(map(repr, there))}?)" if there else ""


def _without_alternative(location: tuple[int | str, ...], model: type[BaseModel]) -> tuple[int | str, ...]:
    """The location of a key, without the name that pydantic gives to one of several types that its value may have."""
    *above, last = location[:-1] or ("",)
    fields = _model_at(model, above)
    field = fields.model_fields.get(str(last)) if fields is not None else None
    return location[:-1] if field is not None and len(_alternatives(field.annotation)) > 1 else location


def _alternatives(annotation: Any) -> list[Any]:
    """The types of a union other than None; none of anything else."""
    union = get_origin(annotation) in (Union, UnionType)
    return [part for part in get_args(annotation) if part is not NoneType] if union else []


def _key(location: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _fields_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Names of the keys that are allowed at a place of the model."""
    found = _model_at(model, location)
    return [] if found is None else [field.alias or name for name, field in found.model_fields.items()]


def _model_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel] | None:
    """The model of the keys at a place of a model."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, str) and current is not None:
            field = current.model_fields.get(part)
            current = _inner_model(field.annotation) if field is not None else None
    return current


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None
