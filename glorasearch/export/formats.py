"""The formats beside timm's own, each as it is refused, written, and loaded again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from glorasearch.export.adapted import AdaptedModel
from glorasearch.export.adapter import adapter_outputs, write_adapter
from glorasearch.export.card import model_card
from glorasearch.export.exported_program import program_outputs, write_program
from glorasearch.export.folder import ExportFolder, read_manifest, write_folder
from glorasearch.export.front_matter import hub_name
from glorasearch.export.onnx_model import check_onnx, onnx_outputs, write_onnx
from glorasearch.export.peft_adapter import check_peft, peft_outputs, write_peft
from glorasearch.export.timm_directory import CARD_NAME
from glorasearch.export.weights_only import weights_outputs, write_weights
from glorasearch.redact import redact_all
from glorasearch.weights.atomic import write_synced

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
    "peft": Format(
        lambda adapted, folder, options: write_peft(adapted, folder, options.lossy_rank),
        peft_outputs,
        lambda adapted, options: check_peft(adapted, options.lossy_rank),
    ),
    "onnx": Format(lambda adapted, folder, _: write_onnx(adapted, folder), onnx_outputs, lambda *_: check_onnx()),
    "torch-export": Format(lambda adapted, folder, _: write_program(adapted, folder), program_outputs),
    "safetensors": Format(lambda adapted, folder, _: write_weights(adapted, folder), weights_outputs),
}
"""By name. timm's own is `export_timm`."""


def export_format(adapted: AdaptedModel, format: str, path: Path, options: Options = Options()) -> ExportFolder:
    """Write an adapted model to a folder in a format; it is loaded once more and compared before it is visible.

    Raises:
        ExportError: if something else is at `path`, the model has no such form, a check fails, or the folder cannot be
            written.
    """
    form = FORMATS[format]

    def write(folder: Path) -> Mapping[str, Any]:
        facts: dict[str, Any] = redact_all(dict(form.write(adapted, folder, options)))
        card = model_card(
            {**facts, "glorasearch": facts},
            adapted.subnet,
            format=format,
            base_model=hub_name(adapted.facts, adapted.source),
        )
        write_synced(folder / CARD_NAME, card.encode())
        return facts

    return write_folder(path, format, write, lambda folder: compare_format(adapted, folder))


def compare_format(adapted: AdaptedModel, path: Path) -> float:
    """Largest absolute difference between what the export in a folder computes and the active subnet.

    Raises:
        ExportError: if it cannot be loaded, or computes something else.
    """
    facts = read_manifest(path)
    outputs = FORMATS[facts["format"]].load(path, adapted)
    loss = (facts.get("lossy") or {}).get("output_error", 0.0)
    return adapted.compare(outputs, f"the export {path.name} against the active subnet", loss=loss)
