"""The manifest of a stored weight set: it makes the set visible, and everything in the set is verified against it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from glorasearch.bounded import parse_json
from glorasearch.errors import WeightsCorruptError
from glorasearch.weights.digest import TensorEntry, entries_digest

FORMAT = 1
WEIGHTS_NAME = "weights.safetensors"
MANIFEST_NAME = "manifest.json"
_OWN_KEYS = frozenset({"format", "file", "tensors"})


@dataclass(frozen=True, slots=True)
class Manifest:
    """The caller's fields, an entry for each tensor, and the size and checksum of the file that holds them."""

    fields: dict[str, Any]
    tensors: dict[str, TensorEntry]
    file_bytes: int
    file_sha256: str

    @classmethod
    def of(cls, fields: Mapping[str, Any], tensors: Mapping[str, TensorEntry], content: bytes) -> Self:
        """The manifest of tensors whose safetensors file is `content`.

        Raises:
            ValueError: if the fields use a reserved key, or are not JSON data.
        """
        return cls(check_fields(fields), dict(tensors), len(content), hashlib.sha256(content).hexdigest())

    @property
    def digest(self) -> str:
        """The weight set's name: SHA-256 over name, dtype, shape and bytes of the tensors, and the caller's fields."""
        return entries_digest(self.tensors, {"format": FORMAT, **self.fields})

    def to_dict(self) -> dict[str, Any]:
        """The caller's fields, and the store's own: `format`, `file` and `tensors`."""
        return {
            **self.fields,
            "format": FORMAT,
            "file": {"name": WEIGHTS_NAME, "bytes": self.file_bytes, "sha256": self.file_sha256},
            "tensors": {name: entry.to_dict() for name, entry in self.tensors.items()},
        }

    def encode(self) -> bytes:
        """The manifest file; the same manifest always gives the same bytes."""
        return (json.dumps(self.to_dict(), sort_keys=True, indent=1, allow_nan=False) + "\n").encode()

    @classmethod
    def decode(cls, content: bytes, digest: str | None, source: str) -> Self:
        """Read a manifest file and check that it belongs to `digest` (None: to any) and is unaltered to the byte.

        Raises:
            WeightsCorruptError: naming `source`.
        """
        try:
            data = parse_json(content)
            version = data.pop("format")
            if version != FORMAT:
                raise WeightsCorruptError(f"{source}: its format is {version!r}; this version reads format {FORMAT}")
            file, tensors = data.pop("file"), data.pop("tensors")
            entries = {
                name: TensorEntry(item["dtype"], tuple(item["shape"]), item["sha256"]) for name, item in tensors.items()
            }
            manifest = cls(data, entries, int(file["bytes"]), str(file["sha256"]))
            unaltered = manifest.encode() == content
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsCorruptError(f"{source}: truncated or altered: not a manifest ({error!r})") from error
        if digest not in (None, manifest.digest) or not unaltered:
            raise WeightsCorruptError(f"{source}: altered: expected digest {digest}, found {manifest.digest}")
        return manifest

    def check_file(self, content: bytes) -> str | None:
        """How the bytes of the weights file differ from the manifest, as a message; None if they do not."""
        found = hashlib.sha256(content).hexdigest()
        if len(content) == self.file_bytes and found == self.file_sha256:
            return None
        size = f" ({len(content)} of {self.file_bytes} bytes)" if len(content) != self.file_bytes else ""
        return f"expected checksum {self.file_sha256}, found {found}{size}"


def check_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's fields as plain JSON data, as they will be read back."""
    taken = sorted(_OWN_KEYS & fields.keys())
    if taken:
        raise ValueError(f"manifest keys {taken} are reserved for the store; choose other names")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(fields), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"a manifest can hold JSON data only: {error}") from error
    return plain
