"""Objects by their dotted names, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any


def load_object(path: str) -> Any:
    """The object that `package.module:name` names; its module is imported if it has not been.

    Raises:
        ImportError: if the module cannot be found, or needs one that cannot.
        AttributeError: if the module has no such name.
        ValueError: if the path is not of that form.
    """
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise ValueError(f"{path!r} is not of the form package.module:name")
    return getattr(importlib.import_module(module), name)
