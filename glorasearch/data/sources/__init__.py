"""Sources of images: each gives the splits that it has, not decoded."""

from glorasearch.data.sources.read import read_source
from glorasearch.data.sources.source_splits import SourceSplits

__all__ = ["SourceSplits", "read_source"]
