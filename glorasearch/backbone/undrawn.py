"""Building a model whose random values are about to be replaced by a file's, without drawing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

LARGE: Final = 100_000
"""Elements from which on a parameter is not drawn: what is smaller takes no time."""
_IN_PLACE: Final = frozenset({"uniform_", "normal_", "bernoulli_", "exponential_", "random_"})
_NEW: Final = frozenset({"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "normal", "bernoulli"})
_OF_DRAWN: Final = frozenset({"erfinv_"})
"""What takes as long, and is done to what was drawn."""


class Undrawn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is open, and until `end`, large parameters are not drawn.

    timm draws all weights twice, by torch's rule and by its own, before it loads a file over them: more than a third of
    the time in which a ViT-B/16 is built.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._on = True
        self._others = False
        """Whether something else was drawn: it is not what it would have been otherwise."""
        self._versions: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Skip a draw, or do what is asked for."""
        if self._on:
            name = func.overloadpacket.__name__
            if name in _IN_PLACE or name in _OF_DRAWN:
                if isinstance(args[0], nn.Parameter):
                    if args[0].numel() >= LARGE:
                        return args[0]
                elif name in _IN_PLACE:
                    self._others = True
            elif name in _NEW:
                self._others = True
        return func(*args, **(kwargs or {}))

    def end(self, model: nn.Module) -> None:
        """From here on everything is done: what is written to the parameters now is written over what is not.

        Raises:
            _OthersDrawn: if something else was drawn, so that the model is of no use.
        """
        self._on = False
        if self._others:
            raise _OthersDrawn
        self._versions = {id(parameter): parameter._version for parameter in model.parameters()}

    def is_covered(self, model: nn.Module) -> bool:
        """Whether nothing is left of what was drawn or not: every parameter was written since `end`."""
        if self._on:
            return False
        return all(self._versions.get(id(parameter)) != parameter._version for parameter in model.parameters())


def build(make: Callable[[Undrawn | None], nn.Module]) -> nn.Module:
    """What `make` makes, without draws if none of them would be left in it; `make` calls `Undrawn.end` before it loads.

    It is called again with all draws if the file does not cover the model.
    """
    draws = Undrawn()
    try:
        with draws:
            model = make(draws)
    except _OthersDrawn:
        return make(None)
    return model if draws.is_covered(model) else make(None)


class _OthersDrawn(BaseException):
    """Ends the making of a model before its file is read; nothing that is reported."""
