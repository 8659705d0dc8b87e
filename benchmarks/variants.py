"""Ways to make a step or a candidate faster that are tried, each with what it was predicted to gain before any run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import variant_float8
import variant_streams
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from glorasearch.evaluation import captured_model
from glorasearch.fused import merged, step

MAX_AUTOTUNE = {"max_autotune": True, "coordinate_descent_tuning": True, "max_autotune_gemm_backends": "ATEN,TRITON"}


@dataclass(frozen=True)
class Variant:
    """One of them."""

    name: str
    apply: Callable[[], AbstractContextManager[Any]]
    """What is made, compiled and captured inside this context is of the variant."""
    step: float | None
    """Milliseconds that a step of ViT-B/16 was predicted to gain on an H100 (of 19.2); None: not tried there."""
    candidate: float | None
    """The same of a candidate of 200 images (of 18.8)."""
    exact: bool = False
    """Whether its results have to be the same to the bit."""
    channels_last: bool = False
    """Whether images lie channel by channel for each pixel."""


def attention(*backends: SDPBackend) -> AbstractContextManager[Any]:
    """Only these backends of `scaled_dot_product_attention`, compiled anew: what was compiled before is found by its
    graph, which does not say by which backend."""
    return both(sdpa_kernel(list(backends)), torch._inductor.config.patch({"force_disable_caches": True}))  # type: ignore[attr-defined]


@contextmanager
def compiled_whole(options: dict[str, Any] | None = None) -> Iterator[None]:
    """The model compiled whole in place of block by block."""

    def whole(model: nn.Module) -> int:
        model.compile(dynamic=False, options=options)
        return 1

    with patch.object(step, "compile_blocks", whole), patch.object(captured_model, "compile_blocks", whole):
        yield


@contextmanager
def tuned_blocks() -> Iterator[None]:
    """Block by block, each product and fused kernel chosen by measuring."""
    with torch._inductor.config.patch(MAX_AUTOTUNE):  # type: ignore[attr-defined]
        yield


@contextmanager
def patches_by_a_convolution() -> Iterator[None]:
    """Patch embeddings by cuDNN, as it was."""
    with patch.object(merged, "embed_by_products", lambda _: None):
        yield


@contextmanager
def both(*contexts: AbstractContextManager[Any]) -> Iterator[Any]:
    """Several variants at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(context) for context in contexts]


CUDNN, FLASH, EFFICIENT = SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION
float8 = variant_float8.float8

VARIANTS: tuple[Variant, ...] = (
    Variant("once more as it is", nullcontext, 0.0, 0.0, exact=True),
    Variant("attention by cuDNN", partial(attention, CUDNN), 1.2, 1.0),
    Variant("float8 with frozen weights", float8, 1.8, 3.5),
    Variant("dense gradients beside the backward pass", variant_streams.dense_beside, 1.0, None, exact=True),
    Variant("float8 and cuDNN", lambda: both(float8(), attention(CUDNN)), 3.0, 4.5),
    Variant("float8 forward only", partial(float8, backward=False), 0.9, None),
    Variant("patches by a convolution", patches_by_a_convolution, -0.4, -1.3),
    Variant("compiled whole", compiled_whole, 0.3, 0.1),
    Variant("banks merged side by side", variant_streams.banks_apart, 0.1, 0.1, exact=True),
    Variant("images with channels last", nullcontext, 0.1, 0.1, channels_last=True),
    Variant("attention by flash", partial(attention, FLASH), 0.0, 0.0),
    Variant("attention by memory-efficient kernels", partial(attention, EFFICIENT), -0.5, -0.3),
    Variant("blocks tuned by measuring", tuned_blocks, 0.3, 0.3),
    Variant("compiled whole, tuned by measuring", partial(compiled_whole, MAX_AUTOTUNE), 0.5, 0.4),
)
"""In the order in which they are tried: predicted gain against the seconds that they take."""
