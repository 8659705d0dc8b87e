"""Compiled code that is kept between processes: in a folder that a workspace names, apart for every set of versions.

`process` has torch's and Triton's compilers keep what they make there; `folder` checks it, locks it and removes it.
"""

from typing import TYPE_CHECKING

from glorasearch.lazy import lazy_names

if TYPE_CHECKING:
    from glorasearch.code_cache.folder import CachedCode, CodeFolder, cached_code, remove_code
    from glorasearch.code_cache.process import keep_code, seal_code, use_code_cache

__getattr__ = lazy_names(
    __name__,
    {
        "folder": ("CachedCode", "CodeFolder", "cached_code", "remove_code"),
        "process": ("keep_code", "seal_code", "use_code_cache"),
    },
)

__all__ = [
    "CachedCode",
    "CodeFolder",
    "cached_code",
    "keep_code",
    "remove_code",
    "seal_code",
    "use_code_cache",
]
