"""Augmentation of training images: batched, on the device, and the same for the same seed and step."""

from typing import TYPE_CHECKING

from glorasearch.lazy import lazy_names
from glorasearch.training.augment.config import PRESETS, Augmentation, AugmentRecipe

if TYPE_CHECKING:
    from glorasearch.training.augment.batches import AugmentedBatches

__all__ = ["PRESETS", "AugmentRecipe", "Augmentation", "AugmentedBatches"]

__getattr__ = lazy_names(__name__, {"batches": ("AugmentedBatches",)})
