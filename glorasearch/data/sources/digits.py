"""The handwritten digits shipped with scikit-learn: 1,797 images of 8 x 8 pixels, 10 classes, values 0 to 16."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from glorasearch.data.records import ArrayRecords
from glorasearch.data.sources.source_splits import SourceSplits
from glorasearch.errors import DataError

WHITE = 16
"""The largest value in the source."""


def read_digits() -> SourceSplits:
    """All digits as one list, values scaled to 0 ... 255; by default 800 train, 200 search, the others test."""
    table = np.loadtxt(
        gzip.decompress(_file().read_bytes()).decode("ascii").splitlines(), delimiter=",", dtype=np.int64
    )
    values = table[:, :-1].reshape(-1, 8, 8)
    pixels = ((values * 255 + WHITE // 2) // WHITE).astype(np.uint8)
    return SourceSplits(
        subject="digits",
        train=ArrayRecords(pixels, table[:, -1], "digits"),
        class_names=tuple("0123456789"),
        default_train=800,
        default_search=200,
        rest_is_test=True,
        origins={"train": "scikit-learn's load_digits"},
        whole_image=True,
    )


def _file() -> Path:
    """scikit-learn's file, with 64 values and the digit in each line; importing scikit-learn itself takes seconds."""
    found = importlib.util.find_spec("sklearn")
    path = None if found is None or found.origin is None else Path(found.origin).parent / "datasets/data/digits.csv.gz"
    if path is None or not path.is_file():
        raise DataError(
            f"data.source 'digits': scikit-learn's file of digits is not there ({path}); install scikit-learn"
        )
    return path
