"""M adapted models on one frozen backbone, trained side by side in one step, or in turns by one."""

from typing import TYPE_CHECKING

from glorasearch.lazy import lazy_names

if TYPE_CHECKING:
    from glorasearch.stacked.member import Member
    from glorasearch.stacked.memory import stack_size
    from glorasearch.stacked.supernets import Supernets
    from glorasearch.stacked.targets import MixedImages
    from glorasearch.stacked.trainer import StackedResult, StackedTrainer

__all__ = ["Member", "MixedImages", "StackedResult", "StackedTrainer", "Supernets", "stack_size"]

__getattr__ = lazy_names(
    __name__,
    {
        "member": ("Member",),
        "memory": ("stack_size",),
        "supernets": ("Supernets",),
        "targets": ("MixedImages",),
        "trainer": ("StackedResult", "StackedTrainer"),
    },
)
