"""The adapters that a server has, by digest and name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from glorasearch.errors import InputError, did_you_mean
from glorasearch.serving.served import ServedAdapter

SHORTEST: Final = 6
"""Characters of a digest that may stand for it."""


class Registry:
    """Adapters in the order in which they came; may be read while another thread adds one."""

    def __init__(self) -> None:
        self._by_digest: dict[str, ServedAdapter] = {}

    def __len__(self) -> int:
        return len(self._by_digest)

    def __iter__(self) -> Iterator[ServedAdapter]:
        return iter(tuple(self._by_digest.values()))

    def add(self, adapter: ServedAdapter) -> None:
        """Keep an adapter, unless it is there.

        Raises:
            InputError: if another one has its name.
        """
        taken = next((one for one in self if adapter.name and one.name == adapter.name), None)
        if taken is not None and taken.digest != adapter.digest:
            raise InputError(f"there is another adapter {adapter.name!r} ({taken.digest[:12]}); give it another name")
        self._by_digest.setdefault(adapter.digest, adapter)

    def remove(self, digest: str) -> None:
        """Let go of an adapter."""
        self._by_digest.pop(digest, None)

    def find(self, adapter: str) -> ServedAdapter:
        """The adapter with a name, a digest, or a digest that begins so.

        Raises:
            InputError: if there is none, or there are several.
        """
        known = dict(self._by_digest)
        named = [one for one in known.values() if one.name == adapter]
        if adapter in known or named:
            return known[adapter] if adapter in known else named[0]
        found = [one for one in known if len(adapter) >= SHORTEST and one.startswith(adapter)]
        if len(found) == 1:
            return known[found[0]]
        if found:
            raise InputError(f"{len(found)} adapters begin with {adapter!r}; give more of the digest")
        near = did_you_mean(adapter, [one.name for one in known.values() if one.name])
        listed = ", ".join(one.label for one in list(known.values())[:8]) or "none"
        raise InputError(f"no adapter {adapter!r} is served here{near}; there are: {listed}")
