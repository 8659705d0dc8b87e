"""Packages whose public names are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glorasearch.dotted import load_object


def lazy_names(package: str, names: dict[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package, given its modules and the public names that each defines.

    So a light module of the package (a `config`) can be imported without the heavy ones (those with torch).
    """
    modules = {name: module for module, defined in names.items() for name in defined}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return load_object(f"{package}.{modules[name]}:{name}")

    return find
