"""The weight store: weight sets are written once, named by their digest, and verified on every read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from glorasearch.errors import WeightsCorruptError, WeightsNotFoundError, WeightStoreError
from glorasearch.weights.atomic import (
    ROOM,
    publish_directory,
    remove_leftovers,
    temporary_directory,
    write_synced,
)
from glorasearch.weights.digest import tensor_entries
from glorasearch.weights.encoding import decode, encode
from glorasearch.weights.files import Files
from glorasearch.weights.manifest import MANIFEST_NAME, WEIGHTS_NAME, Manifest

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """A weight set that has been read and verified."""

    digest: str
    tensors: dict[str, Tensor]
    manifest: dict[str, Any]
    """The caller's fields, and `tensors` (dtype, shape, sha256 of each), `file` and `format`."""


class WeightStore:
    """Weight sets under a local path or an fsspec URL (`memory://...`, `s3://bucket/prefix`, ...).

    A weight set is `<digest>/weights.safetensors` and `<digest>/manifest.json`, and it exists if its manifest does. On
    a local disk both are written to a temporary directory, flushed and renamed in one step; on an object store the
    manifest is written last. So a writer that is killed leaves nothing visible, and the next `put` removes what it left
    on a local disk. Weight sets never change; `get` copies them, `NodeCache` maps them. Both verify what they read, so
    there is no need to `verify` first.

    Many processes may read and write a store at once: two that put the same weight set write the same content.
    """

    def __init__(self, url: str) -> None:
        """Open a store without accessing it.

        Raises:
            WeightStoreError: if the kind of store is unknown, or its library is not installed.
        """
        self.url = url
        self._files = Files(url)
        self.name = self._files.name
        """The URL without credentials, for messages."""

    @property
    def local(self) -> Path | None:
        """The folder of a store on a disk."""
        return self._files.local

    def __repr__(self) -> str:
        return f"WeightStore({self.name!r})"

    def check(self, *, write: bool = True) -> None:
        """Find out before any work whether the store can be reached and read (or written).

        Raises:
            WeightStoreError: naming what is missing: the bucket, the credentials, a permission, the connection.
        """
        self._files.check(write=write)

    def put(self, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> str:
        """Store tensors with the caller's manifest fields (backbone digest, space digest, code version, ...).

        The digest covers names, dtypes, shapes and bytes of the tensors and all of these fields, so leave out what
        differs between two runs that should give the same weight set, such as the time. A weight set that is there
        already is verified, not written.

        Returns:
            The digest, 64 hexadecimal digits.

        Raises:
            ValueError: if a field is not JSON data or has a name that the store reserves.
            WeightStoreError: if a tensor cannot be stored, or the store cannot be written.
            WeightsCorruptError: if the weight set is there already but damaged.
        """
        content = encode(tensors)
        entry = Manifest.of(manifest, tensor_entries(tensors), content)
        digest = entry.digest
        if digest in self:
            self.verify(digest)
            return digest
        if self._files.local is not None:
            try:
                self._publish_local(self._files.local, digest, content, entry.encode())
            except OSError as error:
                raise WeightStoreError(f"weight store {self.name!r} cannot be written: {error}; {ROOM}") from error
        else:
            self._files.write(self._path(digest, WEIGHTS_NAME), content)
            self._files.write(self._path(digest, MANIFEST_NAME), entry.encode())
        return digest

    def get(self, digest: str, device: str | torch.device = "cpu") -> StoredWeights:
        """Read a weight set and verify every checksum, in one pass over its file.

        Raises:
            WeightsNotFoundError: if it is not there.
            WeightsCorruptError: naming the file, the tensor, and the expected and the found checksum.
        """
        manifest, _, tensors = self._verified(digest)
        return StoredWeights(digest, {name: tensors[name].to(device) for name in tensors}, manifest.to_dict())

    def read(self, digest: str) -> tuple[bytes, bytes]:
        """The manifest and the weights file of a weight set, every checksum verified. Raises what `get` raises."""
        manifest, content, _ = self._verified(digest)
        return manifest.encode(), content

    def local_folder(self, digest: str) -> Path | None:
        """Folder of a weight set; None if the store is not on a file system of this machine."""
        return None if self._files.local is None else self._files.local / digest

    def _verified(self, digest: str) -> tuple[Manifest, bytes, dict[str, Tensor]]:
        manifest = self._manifest(digest)
        path = self._path(digest, WEIGHTS_NAME)
        content = self._files.read(path)
        if content is None:
            raise WeightsCorruptError(f"{path}: missing, though its manifest is there; {self._remedy(digest)}")
        try:
            tensors = decode(content, manifest.tensors, path)
        except WeightsCorruptError as error:
            raise WeightsCorruptError(f"{error}; {self._remedy(digest)}") from error
        difference = manifest.check_file(content)
        if difference is not None:
            raise WeightsCorruptError(
                f"{path}: every tensor is sound, but the file is not the one that {self._path(digest, MANIFEST_NAME)} "
                f"describes (one of the two was altered): {difference}; {self._remedy(digest)}"
            )
        return manifest, content, tensors

    def verify(self, digest: str) -> None:
        """Read a weight set and verify every checksum, for those who need no tensors. Raises what `get` raises."""
        self.get(digest)

    def manifest(self, digest: str) -> dict[str, Any]:
        """The manifest of a weight set, verified by the digest; the tensors are not read. Raises what `get` raises."""
        return self._manifest(digest).to_dict()

    def digests(self) -> list[str]:
        """Digests of all weight sets in the store, sorted."""
        paths = [path.split("/") for path in self._files.find()]
        return sorted(
            path[-2] for path in paths if len(path) > 1 and path[-1] == MANIFEST_NAME and _DIGEST.fullmatch(path[-2])
        )

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            return False
        return self._files.exists(self._path(digest, MANIFEST_NAME))

    def _publish_local(self, root: Path, digest: str, content: bytes, manifest: bytes) -> None:
        root.mkdir(parents=True, exist_ok=True)
        remove_leftovers(root)
        with temporary_directory(root / digest) as temporary:
            write_synced(temporary / WEIGHTS_NAME, content)
            write_synced(temporary / MANIFEST_NAME, manifest)
            published = publish_directory(temporary, root / digest)
        if not published and digest not in self:
            raise WeightStoreError(f"{root / digest} exists but holds no weight set: move it away and run again")

    def _manifest(self, digest: str) -> Manifest:
        path = self._path(digest, MANIFEST_NAME)
        content = self._files.read(path) if _DIGEST.fullmatch(digest) else None
        if content is None:
            known = self.digests()
            there = f"it holds {len(known)} weight sets" + (f", such as {known[0]}" if known else "")
            raise WeightsNotFoundError(f"weight store {self.name!r} has no weights {digest!r}; {there}")
        try:
            return Manifest.decode(content, digest, path)
        except WeightsCorruptError as error:
            raise WeightsCorruptError(f"{error}; {self._remedy(digest)}") from error

    def _path(self, digest: str, name: str) -> str:
        return f"{self._files.root}/{digest}/{name}"

    def _remedy(self, digest: str) -> str:
        return f"delete {self._files.root}/{digest} and put the weights again"
