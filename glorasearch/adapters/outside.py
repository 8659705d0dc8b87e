"""Methods from outside are tried on a layer before any work starts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from glorasearch import choices as shipped
from glorasearch.adapters.support import Method, SupportTensor
from glorasearch.adapters.values import as_matrix
from glorasearch.choices import Contribution
from glorasearch.choices.base import RATES
from glorasearch.errors import SearchSpaceError


@torch.no_grad()
def check_outside_methods(tensor: str, methods: Mapping[str, Method], support: SupportTensor, base: Tensor) -> None:
    """Try the methods that are not glorasearch's own on a new layer with W0 `base (out, in)`.

    Raises:
        SearchSpaceError: if a part is of an unknown group of learning rates, a contribution fails or has a shape that
            does not fit, or changes the layer before anything was trained.
    """
    for kind, method in methods.items():
        if method.choice.__module__.startswith(f"{shipped.__name__}."):
            continue
        who = f"method {kind!r} ({method.choice.__module__}) as support tensor {tensor} of {method.site.layer.name}"
        for name, part in method.parts.items():
            if part.rate not in RATES:
                raise SearchSpaceError(f"{who}: part {name!r} has the rate {part.rate!r}; one of {', '.join(RATES)}")
        try:
            added = support.contribution(support.largest(kind), base)
            changes = _changes(added, base)
        except Exception as error:  # somebody else's code
            raise SearchSpaceError(f"{who}: its contribution fails: {type(error).__name__}: {error}") from error
        if changes:
            raise SearchSpaceError(
                f"{who}: it changes {' and '.join(changes)} before anything is trained; a supernet begins as the "
                "backbone, so let a part start at zero"
            )


def _changes(added: Contribution, base: Tensor) -> list[str]:
    """The slots of a contribution that are not zero."""
    line = base.new_zeros(len(base))
    prompt = base.new_zeros(base.shape[1], 1)
    found: list[str] = []
    for slot, shape in (
        ("scale", base),
        ("shift", base),
        ("prompt", prompt),
        ("bias_scale", line),
        ("bias_shift", line),
    ):
        value = getattr(added, slot)
        if value is None:
            continue
        dense = as_matrix(value) if shape.ndim > 1 else value
        if (dense + shape).shape != shape.shape:
            raise ValueError(f"{slot} has shape {tuple(dense.shape)}, which does not fit {tuple(shape.shape)}")
        if bool(dense.any()):
            found.append(slot)
    return found
