"""The commented run file that `glorasearch init` writes and the reference of all options, both made from the fields."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from glorasearch.config import Config, Role
from glorasearch.identity import section_class
from glorasearch.runs.config import RunConfig
from glorasearch.runs.toml_text import toml_value

HEAD: Final = """\
# A run of glorasearch: `glorasearch run THIS_FILE`. `--set search.trials=200` overrides a value.
# Relative paths are taken from this file's folder. Name, backbone, data and space are what `init` was given;
# all other values are the defaults, and keys that are commented out have none.
"""
COLUMN: Final = 32
"""Where comments begin."""
WIDTH: Final = 120
_LIST: Final = "list"
"""The type of a list of words, which follow."""


def render(name: str, backbone: str, data: str, space: str) -> str:
    """The run file with these values; all others are the defaults."""
    given = {"name": name, "backbone.name": backbone, "data.source": data, "space.name": space}
    lines: list[str] = []
    for section, model, description in _tables():
        if section:
            lines += ["", *_commented(f"[{section}]", _first_sentence(description))]
        for key, field in _options(model):
            optional, value = _example(field, section)
            value = given.get(f"{section}.{key}".lstrip("."), value)
            lines += _commented(f"{'# ' if optional else ''}{key} = {toml_value(value)}", _comment(field, section))
    return HEAD + "\n".join(lines) + "\n"


def reference() -> str:
    """Every option of a run file, as Markdown: a table for the top of the file and one for each section."""
    lines: list[str] = []
    for section, model, description in _tables():
        lines += [f"## `[{section}]`" if section else "## Top of the file", "", description, ""]
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        for key, field in _options(model):
            optional, value = _example(field, section)
            default = "required" if field.is_required() else "" if optional else f"`{toml_value(value)}`"
            meaning = _flat(field.description or "") + (
                " The run's if not given." if _inherited(field, section) else ""
            )
            cells = (f"`{key}`", _allowed(field), default, meaning)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def _tables() -> Iterator[tuple[str, type[Config], str]]:
    """Name (empty for the top of the file), class and description of every section, in the order of the file."""
    yield "", RunConfig, "Before the first section."
    for name, field in RunConfig.model_fields.items():
        section = section_class(field)
        if section is not None:
            yield name, section, _flat(field.description or "")


def _options(model: type[Config]) -> Iterator[tuple[str, FieldInfo]]:
    return ((name, field) for name, field in model.model_fields.items() if section_class(field) is None)


def _example(field: FieldInfo, section: str) -> tuple[bool, Any]:
    """Whether a key may be left out without there being a default, and the value to show."""
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    if _inherited(field, section):
        return True, value
    if value is None or value == {}:
        return not field.is_required(), (field.examples or [""])[0]
    return False, value


def _inherited(field: FieldInfo, section: str) -> bool:
    """Whether a section that does not set the value takes it from the run."""
    return bool(section) and Role.SEED in field.metadata


def _commented(text: str, comment: str) -> list[str]:
    """A line and its comment beside it, or below where it is too long for that."""
    first, *more = textwrap.wrap(comment, WIDTH - COLUMN - 2) or [""]
    beside = len(text) < COLUMN
    lines = [f"{text:<{COLUMN}}# {first}"] if beside else [text, f"{'':<{COLUMN}}# {first}"]
    return [*lines, *(f"{'':<{COLUMN}}# {line}" for line in more)]


def _comment(field: FieldInfo, section: str) -> str:
    """Allowed words, and what the field means."""
    words, kind = " | ".join(_words(field.annotation)), _type(field.annotation)
    if words and kind:
        words = f"list of {words}" if kind == _LIST else f"{words} | {kind}"
    meaning = _first_sentence(field.description or "") + (
        "; the run's if not given" if _inherited(field, section) else ""
    )
    return f"{words}; {meaning}" if words else meaning


def _first_sentence(text: str) -> str:
    sentence = re.split(r"\.(?:\s+(?=[A-Z`])|$)", _flat(text), maxsplit=1)[0].replace("`", "")
    word = sentence.partition(" ")[0]
    return sentence[:1].lower() + sentence[1:] if len(word) == 1 or word[1:].islower() else sentence


def _flat(text: str) -> str:
    return " ".join(text.split())


def _words(annotation: Any) -> list[str]:
    """The words of a literal type, also of one that may be left out."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for part in get_args(annotation) for word in _words(part)]


def _allowed(field: FieldInfo) -> str:
    """Type and range, for a table."""
    words = ", ".join(f"`{word}`" for word in _words(field.annotation))
    if words and _type(field.annotation) in ("", _LIST):
        return f"{_type(field.annotation)} of {words}".removeprefix(" of ")
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {_number(getattr(item, name))}"
        for item in _metadata(field)
        for name, sign in signs.items()
        if hasattr(item, name)
    ]
    return ", ".join([" or ".join(filter(None, (words, _type(field.annotation)))), *limits])


def _number(limit: float) -> str:
    """A limit as people write it; one of 64 bits as a power of two."""
    if isinstance(limit, int):
        return f"{limit:,}" if limit < 2**60 else f"2^{limit.bit_length() - 1}"
    return f"{limit:g}"


def _metadata(field: FieldInfo) -> Iterator[Any]:
    """What annotates a field, or one of the types that its value may have."""
    yield from field.metadata
    for part in get_args(field.annotation):
        if get_origin(part) is Annotated:
            for item in get_args(part)[1:]:
                yield from item.metadata if isinstance(item, FieldInfo) else (item,)


def _type(annotation: Any) -> str:
    names = {int: "whole number", float: "number", str: "string", bool: "`true` or `false`", dict: "table"}
    if annotation in names:
        return names[annotation]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0])
    if origin is dict:
        return "table"
    if origin is tuple:
        return f"list of {_type(parts[0])}s" if _type(parts[0]) else _LIST
    if origin is Literal:
        return ""
    return " or ".join(filter(None, (_type(part) for part in parts if part is not NoneType)))
