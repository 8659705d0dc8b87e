"""A merged model as a timm directory: weights, configuration and model card, written atomically."""

from __future__ import annotations

import filecmp
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from glorasearch.adapters.rebuild import as_json, complete_biases, plain_state
from glorasearch.errors import ExportError
from glorasearch.export.backbone_facts import BackboneFacts
from glorasearch.export.card import model_card
from glorasearch.export.verify import (
    Reference,
    check_finite,
    check_nothing_left,
    check_same_names,
    compare_outputs,
    evaluating,
)
from glorasearch.redact import redact_all
from glorasearch.space import Subnet
from glorasearch.tasks import Standard
from glorasearch.tasks.kinds import TaskKind
from glorasearch.version import __version__
from glorasearch.weights import tensor_digest
from glorasearch.weights.atomic import (
    publish_directory,
    remove_leftovers,
    temporary_directory,
    write_synced,
)
from glorasearch.weights.digest import storable

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
CARD_NAME = "README.md"
_FILES = (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported."""

    path: Path
    max_abs_diff: float
    """Largest absolute difference of the merged model's and the reference's outputs; of numbers, standardised."""
    files: tuple[str, ...]
    digest: str
    """`tensor_digest` of the exported weights."""
    bytes: int
    """Size of all files together."""
    sha256: Mapping[str, str]
    """File → its SHA-256, hexadecimal."""


def export_timm(
    model: nn.Module,
    path: str | Path,
    *,
    backbone: BackboneFacts,
    inputs: Tensor,
    reference: Reference,
    subnet: Subnet,
    metrics: Mapping[str, Any] | None = None,
    statements: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
    class_names: Sequence[str] = (),
    task: TaskKind = "classify",
    standard: Standard | None = None,
    reading: Mapping[str, Any] | None = None,
    base_model: str | None = None,
    tolerance: float = 1e-4,
    replace: bool = False,
) -> ExportReport:
    """Write a merged model to the directory `path`, for `timm.create_model("local-dir:<path>", pretrained=True)`.

    Before anything is written, the model's outputs are compared with the reference's, its tensors are checked to be
    finite, and its names, shapes and dtypes to be those that timm builds. The directory is then written under a
    temporary name, loaded by timm, compared once more, and renamed: after a kill `path` has all of it or does not
    exist. Exporting the same content again changes nothing. Biases that layers gained are expressed by timm's
    arguments, or folded into the batch norm behind the layer (`check_exportable`).

    Args:
        model: plain merged model, on any device.
        backbone: how timm builds the original.
        inputs: real, preprocessed images, `(N, C, H, W)`, on the model's device; `C, H, W` become the input size.
        reference: the active subnet's outputs on `inputs`, `(N, classes)`, or a callable that gives them.
        subnet: what was merged.
        metrics: JSON data for `config.json` and the model card, like `provenance`. Leave out what differs between runs
            that should give the same export.
        statements: sentences on the model for the model card, such as what its comparison with others allows to say.
        class_names: label names in the order of the outputs.
        task: what the model says of an image.
        standard: of numbers, by what their outputs are standardised for the comparisons.
        reading: how stored pixels were read, `{"exif": ..., "pixel_range": ...}`, where they were files.
        base_model: name of the backbone on the Hugging Face hub.
        tolerance: allowed difference, relative to the reference's largest absolute output.
        replace: whether an existing, different export is replaced.

    Raises:
        ExportError: if a check fails, if `path` holds something else, or if it cannot be written.
    """
    path = Path(path).absolute()
    if inputs.ndim != 4 or len(inputs) == 0:
        raise ExportError(f"inputs for comparing outputs must be (N, C, H, W) with N > 0, found {tuple(inputs.shape)}")
    if class_names and len(class_names) != backbone.num_classes:
        raise ExportError(f"{len(class_names)} class names were given for {backbone.num_classes} classes")
    _, channels, height, width = inputs.shape
    cfg = backbone.export_cfg((channels, height, width))

    check_nothing_left(model)
    check_finite(model)
    state, arguments = timm_state(model, backbone, (channels, height, width))
    difference = compare_outputs(
        model, inputs, reference, tolerance, "merged model against the active subnet", standard
    )

    ready = storable(state)
    digest = tensor_digest(ready)
    content: dict[str, Any] = {
        "architecture": backbone.architecture,
        "num_classes": backbone.num_classes,
        **({"num_features": model.num_features} if isinstance(getattr(model, "num_features", None), int) else {}),
        **({"label_names": list(class_names)} if class_names else {}),
        "model_args": arguments,
        "pretrained_cfg": cfg,
        "glorasearch": {
            "version": __version__,
            "subnet": subnet.to_dict(),
            "subnet_digest": subnet.digest,
            "weights_digest": digest,
            "metrics": as_json(metrics or {}, "metric"),
            "statements": list(statements),
            **({} if task == "classify" else {"task": task}),
            **({"reading": dict(reading)} if reading is not None else {}),
            "provenance": as_json(provenance or {}, "provenance"),
        },
    }
    config: dict[str, Any] = redact_all(content)  # of which the card is made, too
    try:
        card = model_card(config, subnet, base_model=base_model)
        _write(path, ready, config, card, _Reload(model, inputs, tolerance, standard), replace)
        size = sum((path / name).stat().st_size for name in _FILES)
        sums = {name: _sha256(path / name) for name in _FILES}
    except (OSError, SafetensorError) as error:
        raise ExportError(
            f"export {path} cannot be written: {error}; what was there is untouched, and nothing else is lost: make "
            "room there, or the folder writable, or give another path (export.path), and export again"
        ) from error
    return ExportReport(path, difference, _FILES, digest, size, sums)


def timm_state(
    model: nn.Module, backbone: BackboneFacts, input_size: tuple[int, int, int]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a merged model, by name, in the model that timm builds, and the arguments with which it does.

    Raises:
        ExportError: if timm builds none that holds them.
    """
    state, cfg, arguments = dict(model.state_dict()), backbone.export_cfg(input_size), backbone.export_args(input_size)
    classes = backbone.num_classes
    plain = plain_state(backbone.architecture, arguments, classes, cfg)
    biases = complete_biases(state, backbone.architecture, arguments, plain)
    arguments = biases.arguments
    for layer, norm in biases.folded.items():
        state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] - state.pop(f"{layer}.bias")
    rebuilt = plain_state(backbone.architecture, arguments, classes, cfg)
    device = next(iter(state.values())).device
    for name in rebuilt.keys() - plain.keys() - state.keys():
        state[name] = torch.zeros(rebuilt[name].shape, dtype=rebuilt[name].dtype, device=device)
    check_same_names(state, rebuilt, f"{backbone.architecture!r} with {arguments}")
    return {name: state[name] for name in rebuilt}, arguments


@dataclass(frozen=True, slots=True)
class _Reload:
    """The check of a written directory: timm loads it, and it equals the merged model."""

    model: nn.Module
    inputs: Tensor
    tolerance: float
    standard: Standard | None

    def check(self, directory: Path, state: Mapping[str, Tensor]) -> None:
        try:
            with torch.random.fork_rng(devices=[]):
                loaded = timm.create_model(f"local-dir:{directory}", pretrained=True)
        except Exception as error:
            raise ExportError(f"timm cannot load what was exported: {error}") from error
        differing = [name for name, tensor in loaded.state_dict().items() if not torch.equal(tensor, state[name])]
        if differing:
            raise ExportError(f"timm loads other values for {len(differing)} tensors, the first is {differing[0]!r}")
        compare_outputs(
            loaded.to(self.inputs.device),
            self.inputs,
            self._outputs,
            self.tolerance,
            "the exported model as timm loads it, against the merged model: an argument of the architecture is missing "
            "in the backbone's model_args",
            self.standard,
        )

    def _outputs(self, inputs: Tensor) -> Tensor:
        with evaluating(self.model):
            outputs: Tensor = self.model(inputs)
        return outputs


def _write(
    path: Path, state: dict[str, Tensor], config: dict[str, Any], card: str, reload: _Reload, replace: bool
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    with temporary_directory(path) as temporary:
        write_synced(temporary / CONFIG_NAME, (json.dumps(config, indent=1) + "\n").encode())
        safetensors.torch.save_file(state, temporary / WEIGHTS_NAME, {"format": "pt"})
        shutil.copymode(temporary / CONFIG_NAME, temporary / WEIGHTS_NAME)  # safetensors writes for the owner alone
        write_synced(temporary / CARD_NAME, card.encode())
        reload.check(temporary, state)
        if _same_files(temporary, path):
            return
        if not publish_directory(temporary, path, replace=replace):
            raise ExportError(f"{path} exists and holds something else: choose another path, or replace it")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same_files(one: Path, other: Path) -> bool:
    return all((other / name).is_file() and filecmp.cmp(one / name, other / name, shallow=False) for name in _FILES)
