"""What a server of adapters is asked for, checked: options, and images that its backbone can take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from torch import Tensor, nn

from glorasearch.adapters.own_input import own_shape
from glorasearch.backbone import check_model_input
from glorasearch.config import Precision
from glorasearch.errors import BackboneError, InputError


def check_options(memory: int, unmerged_below: float | None, precision: str) -> None:
    """Refuse options that mean nothing.

    Raises:
        InputError: saying which, and what is allowed.
    """
    for option, value in (("memory", memory), ("unmerged_below", unmerged_below or 0)):
        if not value >= 0:
            raise InputError(f"{option} is {value}; expected 0 or more")
    if precision not in get_args(Precision):
        raise InputError(f"precision is {precision!r}; allowed are {', '.join(get_args(Precision))}")


def check_images(images: Tensor) -> None:
    """Refuse what is not normalised images `(N, C, H, W)`.

    Raises:
        InputError: saying what it is.
    """
    if images.ndim != 4 or len(images) == 0:
        raise InputError(f"images must be (N, C, H, W) with N > 0, found {tuple(images.shape)}")
    if not images.is_floating_point():
        raise InputError(f"images are {images.dtype}; expected normalised ones of a floating-point type")


@contextmanager
def taken_by(model: nn.Module, images: Tensor) -> Iterator[None]:
    """A forward pass of images `(N, C, H, W)`; if it fails on their size or channels, that is said in words.

    Raises:
        InputError: naming the size, why it does not fit, and what does.
    """
    try:
        yield
    except (RuntimeError, ValueError, AssertionError):
        _, channels, height, width = images.shape
        try:
            check_model_input(model, (channels, height, width))
        except BackboneError as error:
            own = ", ".join(map(str, own_shape(model)))
            raise InputError(f"{str(error).rstrip('.')}; it is built for normalised images (N, {own})") from error
        raise
