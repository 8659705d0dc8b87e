"""How many operations of tensors a computation has, and how much memory they read and write, on any device."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

VIEWS = (
    *("view", "expand", "split", "detach", "transpose", ".t."),
    *("slice", "select.", "squeeze", "permute", "alias", "unbind", "unfold", "chunk", "as_strided", "lift_fresh"),
)
EMPTY = ("empty", "new_empty")
CHOSEN = ("aten.index.", "aten.gather.", "aten.index_select.", "aten.index_put_.", "aten.index_put.")
"""Operations that read or write as much of their first argument as they choose."""


class Operations(TorchDispatchMode):
    """Counts operations, views left out: each is a launch on a GPU, some are several. Bytes are those of arguments and
    results, each once, a broadcast one as large as it is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.bytes = 0
        self.by_name: Counter[str] = Counter()
        """Operation → bytes."""
        self.counts: Counter[str] = Counter()
        """Operation → how often."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **kwargs or {})
        name = str(function)
        if any(view in name for view in VIEWS) or name.removeprefix("aten.").startswith(EMPTY):
            return found
        given, results = ([one for one in tree_leaves(part) if isinstance(one, Tensor)] for part in (args, found))
        if name.startswith(CHOSEN):
            given = given[1:]
            results = given[-1:] if "put" in name else results
            given = given if "put" in name else [*given, *results]
        self.count += 1
        moved = sum(_bytes(one) for one in (*given, *results))
        self.bytes += moved
        self.by_name[name] += moved
        self.counts[name] += 1
        return found


def _bytes(tensor: Tensor) -> int:
    kept = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    count = 1
    for size in kept:
        count *= size
    return count * tensor.element_size()
