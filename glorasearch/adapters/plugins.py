"""Choice classes from outside the package are tried on a layer before any work starts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import glorasearch.choices as shipped
from glorasearch.adapters.support import OfferedChoice, SupportTensor
from glorasearch.choices import Contribution, as_matrix
from glorasearch.choices.base import RATES
from glorasearch.choices.plugins import describe
from glorasearch.errors import SearchSpaceError
from glorasearch.interrupts import is_interrupt


@torch.no_grad()
def check_plugins(tensor: str, offered: Mapping[str, OfferedChoice], support: SupportTensor, base: Tensor) -> None:
    """Try the choice classes that are not glorasearch's own on a new layer with W0 `base (out, in)`.

    Raises:
        SearchSpaceError: if a part has an unknown learning-rate group, or a contribution fails, has a shape that does
            not fit, or is not zero before anything was trained.
    """
    for name, choice in offered.items():
        module = choice.choice_class.__module__
        if module.startswith(f"{shipped.__name__}."):
            continue
        who = f"choice {name!r} ({module}) as support tensor {tensor} of {choice.site.layer.name}"
        for part_name, part in choice.parts.items():
            if part.rate.partition(" ")[0] not in RATES:
                raise SearchSpaceError(
                    f"{who}: part {part_name!r} has the rate {part.rate!r}; one of {', '.join(RATES)}"
                )
        try:
            added = support.contribution(support.largest(name), base)
            changes = _changes(added, base)
        except BaseException as error:  # third-party code
            if is_interrupt(error):
                raise
            raise SearchSpaceError(f"{who}: its contribution fails: {describe(error)}") from error
        if changes:
            raise SearchSpaceError(
                f"{who}: it changes {' and '.join(changes)} before anything is trained; a supernet starts as the "
                "backbone, so let a part start at zero"
            )


def _changes(added: Contribution, base: Tensor) -> list[str]:
    """The fields of a contribution that are not zero."""
    line = base.new_zeros(len(base))
    prompt = base.new_zeros(base.shape[1], 1)
    shapes = {"scale": base, "shift": base, "prompt": prompt, "bias_scale": line, "bias_shift": line}
    found: list[str] = []
    for field, shape in shapes.items():
        value = getattr(added, field)
        if value is None:
            continue
        dense = as_matrix(value) if shape.ndim > 1 else value
        if (dense + shape).shape != shape.shape:
            raise ValueError(f"{field} has shape {tuple(dense.shape)}, which does not fit {tuple(shape.shape)}")
        if bool(dense.any()):
            found.append(field)
    return found
