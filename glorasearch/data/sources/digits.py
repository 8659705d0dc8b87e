"""The handwritten digits that scikit-learn ships: 1,797 images of 8 x 8 pixels, 10 classes, values 0 to 16."""

from __future__ import annotations

import numpy as np

from glorasearch.data.records import ArrayRecords
from glorasearch.data.sources.source_splits import SourceSplits

WHITE = 16
"""The largest value in the source."""


def read_digits() -> SourceSplits:
    """All digits as one list, values scaled to 0 ... 255; by default 800 train, 200 search, the rest test."""
    from sklearn.datasets import load_digits  # only this source needs scikit-learn

    data = load_digits()
    values = data.images.astype(np.int64)
    pixels = ((values * 255 + WHITE // 2) // WHITE).astype(np.uint8)
    return SourceSplits(
        subject="digits",
        train=ArrayRecords(pixels, data.target, "digits"),
        class_names=tuple(str(name) for name in data.target_names),
        default_train=800,
        default_search=200,
        rest_is_test=True,
        origins={"train": "scikit-learn's load_digits"},
        whole_image=True,
    )
