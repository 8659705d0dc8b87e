"""The fused paths: the choices of every layer as data, so that one static computation serves every subnet.

The equations of a layer and of its gradient are in `gradients`, in plain torch; the parts of a step are in `step`.
`layout` says how choices, factors, plans and storages are laid out. `bank` stacks layers of one shape and turns the
drawn choices into factors, `pool` keeps everything that is trained in one flat buffer, `linear` and `convolution` have
the layers of a fused model (`geometry`: where a convolution reads its input), `extras` has the choices beyond GLoRA's
own forms, `merge_kernels` and `factor_gradients` (with `gradient_kernels`) are the equations in kernels of Triton
(imported on a GPU only; `kernel_layout` is their side of the layout), `parts` leaves out of a captured step what a
subnet does not need, `optimizer` is AdamW on the flat buffer, and `rows` has the states of several trainings that take
turns in it. `tests/numerics/test_fused_*` compare all of it with `Supernet.activate` over all choices.
"""

from glorasearch.fused.compiling import compile_blocks
from glorasearch.fused.layout import CODE_WIDTH
from glorasearch.fused.merged import MergedLinear, MergedWeights, static_model
from glorasearch.fused.pool import Pool, UnfusableError, pool_of
from glorasearch.fused.rows import Rows
from glorasearch.fused.step import FusedStep, StepConfig

__all__ = [
    "CODE_WIDTH",
    "FusedStep",
    "MergedLinear",
    "MergedWeights",
    "Pool",
    "Rows",
    "StepConfig",
    "UnfusableError",
    "compile_blocks",
    "pool_of",
    "static_model",
]
