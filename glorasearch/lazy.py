"""Packages whose public names are imported when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from typing import Any

from glorasearch.dotted import load_object


def lazy_names(
    package: str, names: dict[str, tuple[str, ...]], *, modules: Collection[str] = ()
) -> Callable[[str], Any]:
    """The `__getattr__` of a package, given its modules and the public names that each defines; and public `modules`.

    So a light module of the package (a `config`) can be imported without the heavy ones (those with torch).
    """
    homes = {name: module for module, defined in names.items() for name in defined}

    def find(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return load_object(f"{package}.{homes[name]}:{name}")

    return find
