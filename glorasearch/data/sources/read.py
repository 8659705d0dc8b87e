"""From a source's name to its splits."""

from __future__ import annotations

from glorasearch.data.config import DataConfig
from glorasearch.data.sources.source_splits import SourceSplits
from glorasearch.errors import DataError

TIMM_PREFIXES = ("", "torch", "hfds", "hfids", "tfds", "wds")
"""What may stand before the `/` of a name in timm's way; without one it is a folder or tar file, `data.root`."""


def read_source(config: DataConfig) -> SourceSplits:
    """What the source has, with its lists and folders checked, but no image decoded.

    Raises:
        DataError: if there is no such source, or its lists or folders are not what they must be.
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
    check_source(source, config.root)
    from glorasearch.data.sources.timm_source import read_timm

    return read_timm(config)


def check_source(source: str, root: str | None) -> None:
    """Refuse what is the name of no source; whether it is there is found out when it is read.

    Raises:
        DataError: naming the kinds that there are.
    """
    if source == "digits" or source.startswith(("vtab:", "folder:")):
        return
    if ":" in source and "/" not in source.partition(":")[0]:
        raise DataError(
            f"data.source {source!r}: unknown kind {source.partition(':')[0]!r}; allowed are digits, "
            "vtab:<root>/<task>, folder:<path>, and timm's names, such as torch/cifar100 with data.root"
        )
    prefix = source.partition("/")[0].lower() if "/" in source else ""
    if prefix not in TIMM_PREFIXES or (not prefix and root is None):
        raise DataError(
            f"data.source {source!r}: no such source; allowed are digits, vtab:<root>/<task>, folder:<path>, and "
            "timm's names, such as torch/cifar100 with data.root"
        )
