"""M adapted models on one frozen backbone, trained side by side in one step, or in turns by one."""

from typing import TYPE_CHECKING

from glorasearch.lazy import lazy_names

if TYPE_CHECKING:
    from glorasearch.stacked.build import Order, takes_turns
    from glorasearch.stacked.member import Member
    from glorasearch.stacked.memory import LARGEST, stack_size
    from glorasearch.stacked.supernets import Supernets
    from glorasearch.stacked.targets import MixedImages
    from glorasearch.stacked.trainer import StackedResult, StackedTrainer

__all__ = [
    "LARGEST",
    "Member",
    "MixedImages",
    "Order",
    "StackedResult",
    "StackedTrainer",
    "Supernets",
    "stack_size",
    "takes_turns",
]

__getattr__ = lazy_names(
    __name__,
    {
        "build": ("Order", "takes_turns"),
        "member": ("Member",),
        "memory": ("LARGEST", "stack_size"),
        "supernets": ("Supernets",),
        "targets": ("MixedImages",),
        "trainer": ("StackedResult", "StackedTrainer"),
    },
)
