"""The base of every package's `Config`: a frozen, strict model whose fields document themselves.

A field is written once: type, range, default, and a docstring whose first sentence is its comment in the run file that
`glorasearch init` writes. `Role` marks the fields that do not count where runs are recognised or compared.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

from glorasearch.bounded import name_fault
from glorasearch.errors import ConfigError
from glorasearch.strict_toml import explain

_Init = TypeVar("_Init", bound=Callable[..., None])
_Item = TypeVar("_Item")


class Role(enum.Enum):
    """What a field counts for where runs are recognised or compared; a field without a role affects the results."""

    BOOKKEEPING = "bookkeeping"
    """Labels, places and measurements: the results are the same whatever the value."""
    SEED = "seed"
    """Affects the results, but runs that differ only in it are repetitions. In a section it defaults to the run's."""
    METHOD = "method"
    """Part of the method: runs that differ in it are compared without a warning."""


ListOf = Annotated[tuple[_Item, ...], Strict(False)]
"""A tuple that may be given as a list, as TOML and JSON have it; its items are checked strictly."""
MOST_STEPS: Final = 1_000_000_000
MOST_BATCH: Final = 65_536
MOST_THREADS: Final = 1_024
"""Limits above all that makes sense: what is beyond costs a machine its memory before it computes anything."""
Seed = Annotated[int, Field(ge=0, lt=2**64), Role.SEED]
"""What generators take; torch's have 64 bits."""
Compile = Literal["auto", "on", "off"]
Precision = Literal["auto", "float32", "bfloat16"]


def is_mixed(precision: Precision, device: str) -> bool:
    """Whether a forward pass on a device runs under bfloat16 autocast; `auto` does so on GPUs."""
    return precision == "bfloat16" or (precision == "auto" and device.startswith("cuda"))


def _of_pydantic(init: _Init) -> _Init:
    """Mark `__init__` as not customised: nested models are then validated together, with one list of errors."""
    vars(init)["__pydantic_base_init__"] = True
    return init


class Config(BaseModel):
    """A frozen configuration; unknown keys, wrong types and values out of range are refused when it is made.

    Types are not converted: `"3"` is no number, `true` no 1. But whole numbers may stand for floats.

    Raises:
        ConfigError: (on creation) naming each key, what was found and what is allowed.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )
    section: ClassVar[str] = ""
    """Its section of a run file."""

    @_of_pydantic
    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError("\n".join(explain(error, type(self), self.section))) from error

    @model_validator(mode="after")
    def _check_texts(self) -> Self:
        """Texts name files, directly or within a URL."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and (fault := name_fault(text)):
                    raise ValueError(f"{name}: {fault}")
        return self

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, checked like a new one.

        Raises:
            ConfigError: if a value cannot be used.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**given | changes)
