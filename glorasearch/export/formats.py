"""The formats beside timm's own, each as it is refused, written, and loaded again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from glorasearch.export.adapted import AdaptedModel
from glorasearch.export.adapter import adapter_outputs, write_adapter
from glorasearch.export.folder import ExportFolder, read_manifest, write_folder

Outputs = Callable[[Tensor], Tensor]
"""Images `(N, C, H, W)` on the device of the adapted model to outputs `(N, classes)`."""


@dataclass(frozen=True, slots=True)
class Options:
    """What may be asked for of a format."""

    lossy_rank: int | None = None
    """The rank by which PEFT's low-rank factors stand for what has no such form; None refuses it."""


def _always(adapted: AdaptedModel, options: Options) -> None:
    """Any model has this form."""


@dataclass(frozen=True, slots=True)
class Format:
    """A form in which an adapted model is exported."""

    write: Callable[[AdaptedModel, Path, Options], Mapping[str, Any]]
    """Writes into an empty folder; returns what the manifest says of it."""
    load: Callable[[Path, AdaptedModel], Outputs]
    """What is in a folder, as its user loads it."""
    check: Callable[[AdaptedModel, Options], None] = _always
    """Raises `InputError` if the model has no such form; before anything is written."""


FORMATS: Final[Mapping[str, Format]] = {
    "adapter": Format(lambda adapted, folder, _: write_adapter(adapted, folder), adapter_outputs),
}
"""By name. timm's own is `export_timm`."""


def export_format(adapted: AdaptedModel, format: str, path: Path, options: Options = Options()) -> ExportFolder:
    """Write an adapted model to a folder in a format; it is loaded once more and compared before it is visible.

    Raises:
        ExportError: if something else is at `path`, the model has no such form, a check fails, or the folder cannot be
            written.
    """
    form = FORMATS[format]
    return write_folder(
        path,
        format,
        lambda folder: form.write(adapted, folder, options),
        lambda folder: compare_format(adapted, folder),
    )


def compare_format(adapted: AdaptedModel, path: Path) -> float:
    """Largest absolute difference between what the export in a folder computes and the active subnet.

    Raises:
        ExportError: if it cannot be loaded, or computes something else.
    """
    format = str(read_manifest(path)["format"])
    return adapted.compare(FORMATS[format].load(path, adapted), f"the export {path.name} against the active subnet")
