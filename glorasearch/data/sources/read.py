"""Reading a source by its name."""

from __future__ import annotations

from glorasearch.data.config import CSV, NPZ, OWN_SCHEMES, DataConfig
from glorasearch.data.sources.source_splits import SourceSplits
from glorasearch.errors import DataError

TIMM_PREFIXES = ("", "torch", "hfds", "hfids", "tfds", "wds")
"""Allowed before the `/` of a timm name; a name without a prefix is a folder or tar file at `data.root`."""

ALLOWED = (
    "digits, vtab:<root>/<task>, folder:<path>, csv:<file>.csv, npz:<file>.npz#<task>, and timm names, such as "
    "torch/cifar100 with data.root"
)
"""The kinds of sources, for messages."""


def read_source(config: DataConfig) -> SourceSplits:
    """The splits of the source, with its lists and folders checked; no image is decoded.

    Raises:
        DataError: if there is no such source, or its lists or folders are wrong.
    """
    source = config.source
    if source == "digits":
        from glorasearch.data.sources.digits import read_digits

        return read_digits()
    if source.startswith("vtab:"):
        from glorasearch.data.sources.vtab import read_vtab

        return read_vtab(source.removeprefix("vtab:"))
    if source.startswith("folder:"):
        from glorasearch.data.sources.folder import read_folder

        return read_folder(source.removeprefix("folder:"))
    if source.startswith(CSV):
        from glorasearch.data.sources.csv_file import read_csv

        return read_csv(source.removeprefix(CSV), config.root, config.task)
    if source.startswith(NPZ):
        from glorasearch.data.sources.npz import read_npz

        return read_npz(source.removeprefix(NPZ), config.task)
    check_source(source, config.root)
    from glorasearch.data.sources.timm_source import read_timm

    return read_timm(config)


def check_source(source: str, root: str | None) -> None:
    """Refuse names that cannot be a source; whether a source exists shows when it is read.

    Raises:
        DataError: listing the kinds of sources.
    """
    if source == "digits" or source.startswith(OWN_SCHEMES):
        return
    if ":" in source and "/" not in source.partition(":")[0]:
        raise DataError(f"data.source {source!r}: unknown kind {source.partition(':')[0]!r}; allowed are {ALLOWED}")
    prefix = source.partition("/")[0].lower() if "/" in source else ""
    if prefix not in TIMM_PREFIXES or (not prefix and root is None):
        raise DataError(f"data.source {source!r}: no such source; allowed are {ALLOWED}")
