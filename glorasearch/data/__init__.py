"""Data: from a source's name to three disjoint splits, checked before any work starts."""

from typing import TYPE_CHECKING

from glorasearch.data.config import DataConfig
from glorasearch.lazy import lazy_names

if TYPE_CHECKING:
    from glorasearch.data.input_spec import InputSpec
    from glorasearch.data.load import (
        SourceSummary,
        check_source,
        load_search_data,
        load_search_split,
        load_splits,
        load_test_split,
    )
    from glorasearch.data.overlap import OverlapReport, PairOverlap
    from glorasearch.data.packed import pack_search_split, unpack_search_split
    from glorasearch.data.split_sets import SearchData, Splits
    from glorasearch.data.splits import SearchSplit, TestSplit, TrainSplit
    from glorasearch.data.splitter import stratified_split

__all__ = [
    "DataConfig",
    "InputSpec",
    "OverlapReport",
    "PairOverlap",
    "SearchData",
    "SearchSplit",
    "SourceSummary",
    "Splits",
    "TestSplit",
    "TrainSplit",
    "check_source",
    "load_search_data",
    "load_search_split",
    "load_splits",
    "load_test_split",
    "pack_search_split",
    "stratified_split",
    "unpack_search_split",
]

_LOADING = ("SourceSummary", "check_source", "load_search_data", "load_search_split", "load_splits", "load_test_split")
__getattr__ = lazy_names(
    __name__,
    {
        "input_spec": ("InputSpec",),
        "load": _LOADING,
        "overlap": ("OverlapReport", "PairOverlap"),
        "packed": ("pack_search_split", "unpack_search_split"),
        "split_sets": ("SearchData", "Splits"),
        "splits": ("SearchSplit", "TestSplit", "TrainSplit"),
        "splitter": ("stratified_split",),
    },
)
