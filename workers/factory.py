"""How a worker gets its evaluator: a function found by its dotted name, called with a JSON specification."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from glorasearch.errors import InputError
from glorasearch.space import Evaluate

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def check_factory_name(name: str) -> None:
    """Raise `InputError` unless the name has the form `package.module:function`."""
    if not _DOTTED.fullmatch(name):
        raise InputError(f"evaluator factory {name!r}: expected the form 'package.module:function'")


def build_evaluator(name: str, spec: Mapping[str, Any]) -> Evaluate:
    """Import the factory `package.module:function` and call it with the specification.

    Raises:
        Exception: whatever the import or the factory raises.
    """
    module, _, function = name.partition(":")
    factory: Callable[[Mapping[str, Any]], Evaluate] = getattr(importlib.import_module(module), function)
    return factory(spec)
