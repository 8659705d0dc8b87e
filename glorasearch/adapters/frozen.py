"""What of a backbone is frozen: all tensors but the parameters of its head."""

from __future__ import annotations

from torch import Tensor, nn

from glorasearch.adapters.inject import head_names


def frozen_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the state dict that are never trained, detached: statistics of a norm in the head are among them.

    Raises:
        BackboneError: if the model has no head.
    """
    trained = {f"{head}.{own}" for head in head_names(model) for own, _ in model.get_submodule(head).named_parameters()}
    return {name: value.detach() for name, value in model.state_dict().items() if name not in trained}
