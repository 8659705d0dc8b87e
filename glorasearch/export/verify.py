"""Checks on a merged model: that it is finite, plain, and computes the same as the active subnet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from glorasearch.errors import ExportError
from glorasearch.tasks import Standard

Reference = Tensor | Callable[[Tensor], Tensor]
_DIVERGED = "the training has diverged; try a lower learning rate (refit.lr, train.lr) or more steps"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def check_finite(model: nn.Module) -> None:
    """Raise `ExportError` naming the tensors that hold NaN, or the parameters that hold infinity.

    Buffers come as they are from the backbone, where bounds may be infinite.
    """
    bad = [name for name, tensor in model.named_parameters() if not bool(torch.isfinite(tensor).all())]
    bad += [name for name, tensor in model.named_buffers() if bool(torch.isnan(tensor).any())]
    if bad:
        raise ExportError(
            f"{len(bad)} tensors of the merged model are not finite, the first is {bad[0]!r}: {_DIVERGED}"
        )


def check_nothing_left(model: nn.Module) -> None:
    """Raise `ExportError` if a module of the model is of this package, or has a hook, which cannot be stored."""
    for name, module in model.named_modules():
        where = f"{name or 'the model itself'} ({type(module).__name__})"
        if type(module).__module__.partition(".")[0] == "glorasearch":
            raise ExportError(f"{where} is still an adapted module: merge the subnet before exporting")
        if any(getattr(module, hooks, None) for hooks in _HOOKS):
            raise ExportError(f"{where} has hooks, which an exported model cannot have: remove them before exporting")


def check_same_names(state: Mapping[str, Tensor], plain: Mapping[str, Tensor], built_from: str) -> None:
    """Raise `ExportError` unless names, shapes and dtypes are those of the model that timm builds."""
    extra, missing = sorted(state.keys() - plain.keys()), sorted(plain.keys() - state.keys())
    if extra or missing:
        raise ExportError(
            f"the merged model is not the one that timm builds from {built_from}: "
            f"unexpected are {extra[:5]} ({len(extra)}), missing are {missing[:5]} ({len(missing)})"
        )
    for name, tensor in state.items():
        found, expected = (tuple(tensor.shape), tensor.dtype), (tuple(plain[name].shape), plain[name].dtype)
        if found != expected:
            raise ExportError(f"{name} is {found} in the merged model, but timm builds {expected} from {built_from}")


def compare_outputs(
    model: nn.Module,
    inputs: Tensor,
    reference: Reference,
    tolerance: float,
    what: str,
    standard: Standard | None = None,
) -> float:
    """Largest absolute difference of the model's outputs and the reference's on `inputs`, `(N, C, H, W)`.

    `tolerance` is relative to the largest absolute output of the reference. Numbers in units of their own are
    standardised first: a target of thousands says nothing of what a target of hundredths may differ by.

    Raises:
        ExportError: if it is exceeded, outputs are not finite, or their shapes differ.
    """
    with evaluating(model), torch.no_grad(), _whole_float32():
        found = model(inputs)
        expected = reference if isinstance(reference, Tensor) else reference(inputs)
    if found.shape != expected.shape or found.shape[0] != inputs.shape[0]:
        raise ExportError(f"{what}: outputs {tuple(found.shape)} and {tuple(expected.shape)} for {len(inputs)} inputs")
    return compare_tensors(found, expected, tolerance, what, standard)


def compare_tensors(
    found: Tensor, expected: Tensor, tolerance: float, what: str, standard: Standard | None = None
) -> float:
    """As `compare_outputs`, of outputs `(N, classes)`."""
    if found.shape != expected.shape:
        raise ExportError(f"{what}: outputs {tuple(found.shape)} and {tuple(expected.shape)}")
    found, expected = found.to(torch.float64), expected.to(found.device, torch.float64)
    if standard is not None:
        found, expected = standard.of_outputs(found), standard.of_outputs(expected)
    difference = float((found - expected).abs().max())
    allowed = tolerance * float(expected.abs().max())
    if not math.isfinite(allowed):
        raise ExportError(f"{what}: the outputs of the latter are not finite: {_DIVERGED}")
    if not difference <= allowed:
        raise ExportError(
            f"{what}: outputs differ by {difference:.3g}, allowed is {allowed:.3g} ({tolerance:g} of the largest)"
        )
    return difference


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the `with`; afterwards every module has its previous mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _whole_float32() -> Iterator[None]:
    """Convolutions on a GPU in float32, not in TF32 (the default), whose three digits would look like an error."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
