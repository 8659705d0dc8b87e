"""The merged model for ONNX's runtimes: batches of any size, and its preprocessing in the file's metadata."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from glorasearch.errors import ExportError, InputError, reason
from glorasearch.export.adapted import AdaptedModel
from glorasearch.export.exported_program import any_batch, first_cause, quiet, traced
from glorasearch.export.preprocessing import as_texts, described_input

MODEL_NAME: Final = "model.onnx"
OPSET: Final = 20
LARGEST_FILE: Final = 1_900_000_000
"""Bytes of weights in the file itself: a protocol buffer has at most 2 GiB."""


def check_onnx() -> None:
    """Raise `InputError` if what writes and checks the format is not installed."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"format onnx needs {', '.join(missing)}: pip install 'glorasearch[onnx]'")


def write_onnx(adapted: AdaptedModel, folder: Path) -> dict[str, Any]:
    """Write the model into a folder; returns what the manifest has to say of it.

    Raises:
        ExportError: if it cannot be translated.
    """
    import onnx

    with _plain_attention():
        program = traced(adapted)
    large = sum(value.numel() * value.element_size() for value in program.state_dict.values()) > LARGEST_FILE
    try:
        with quiet(), _plain_attention(), redirect_stdout(io.StringIO()):
            made = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: "batch"}},
                verbose=False,
            )
            assert made is not None
            made.model.metadata_props.update(as_texts(adapted))
            made.save(folder / MODEL_NAME, external_data=large)
            onnx.checker.check_model(str(folder / MODEL_NAME))
    except Exception as error:
        raise ExportError(
            f"torch cannot write {adapted.facts.architecture} as ONNX: {first_cause(error)}; the format torch-export "
            "does without it"
        ) from error
    return adapted.described() | {"onnx": {"opset": OPSET, **described_input(adapted)}}


def onnx_outputs(folder: Path, adapted: AdaptedModel) -> Callable[[Tensor], Tensor]:
    """What onnxruntime computes of the file in a folder; several sizes of batches are compared with the whole.

    Raises:
        ExportError: if it cannot be loaded, or does not take batches of any size.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(folder / MODEL_NAME), options, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
    except Exception as error:
        raise ExportError(f"onnxruntime cannot load {folder / MODEL_NAME}: {reason(error)}; export again") from error

    def outputs(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {given.name: images.numpy()})
        return torch.from_numpy(logits)

    return lambda images: any_batch(outputs, images.cpu(), adapted)


def _plain_attention() -> AbstractContextManager[None]:
    """Attention as matrix products, into which it is taken apart: the strides of fused kernels are others."""
    context: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return context
