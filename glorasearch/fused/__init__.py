"""The fast path: every layer's path as data, so that one static computation serves every subnet.

The equation of a layer and of its gradient is in `gradients`, in plain torch; the plan of a step is in `step`. `bank`
stacks layers of one shape and turns the drawn choices into factors, `pool` keeps all that is trained in one flat
buffer, `linear` is the layer that a fused model has, `extras` has the methods beyond GLoRA's own forms, `merge_kernels`
and `gradient_kernels` are the Triton kernels (only imported on a GPU) that do what `gradients` says, and `optimizer` is
AdamW on the flat buffer. `tests/numerics/test_fused_*` compare all of it with `Supernet.activate` over all choices.
"""

from glorasearch.fused.codes import CODE_WIDTH
from glorasearch.fused.compiling import compile_blocks
from glorasearch.fused.merged import MergedLinear, MergedWeights, static_model
from glorasearch.fused.pool import Pool, UnfusableError, pool_of
from glorasearch.fused.step import FusedStep, StepConfig

__all__ = [
    "CODE_WIDTH",
    "FusedStep",
    "MergedLinear",
    "MergedWeights",
    "Pool",
    "StepConfig",
    "UnfusableError",
    "compile_blocks",
    "pool_of",
    "static_model",
]
