"""The folder in which the compilers of this process, Inductor and Triton, keep what they make."""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib.metadata
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import torch

from glorasearch.choices import plugin_sources
from glorasearch.code_cache.folder import COMPILERS, CodeFolder
from glorasearch.config import Compile
from glorasearch.errors import WeightStoreError, reason
from glorasearch.version import __version__
from glorasearch.weights import NodeCache

_log = logging.getLogger(__name__)

_VARIABLES: Final = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Where the compilers look for their folders, each time that they compile; in the order of `COMPILERS`."""
_OURS: Final = "GLORASEARCH_CODE_CACHE_IN_USE"
"""Names the folder that was set here, also to the processes that this one starts."""
FEW_PROCESSES: Final = 8
"""That compile in a process which finds compiled code: enough if another model's is to be compiled after all."""
_OPERATORS: Final = Path(__file__).parents[1] / "fused"
"""The package whose operators have gradients of their own: of these the compilers' keys hold no more than the names."""
_folders: dict[Path, CodeFolder] = {}
_current: list[CodeFolder] = []


def keep_code(
    folder: str | Path | None, device: torch.device | str, compile: Compile, plugins: Iterable[str] = ()
) -> str | None:
    """`use_code_cache` where anything is compiled: on a GPU, unless `compile` is off; returns what it does, or None."""
    if torch.device(device).type != "cuda" or compile == "off":
        return None
    return use_code_cache(None if folder is None else Path(folder), device, plugins)


def use_code_cache(root: Path | None, device: torch.device | str, plugins: Iterable[str] = ()) -> str:
    """Have what is compiled from now on kept in a folder, or for this process alone.

    If `TORCHINDUCTOR_CACHE_DIR` is set in the environment, that is used, and nothing is checked.

    Args:
        root: of a workspace; a folder of this node if that workspace is not on this machine; None keeps nothing.
        device: for which it is compiled.
        plugins: of search spaces, whose source counts as a version.

    Returns:
        A sentence on where compiled code is and how much there is.
    """
    given = os.environ.get(_VARIABLES[0])
    if given is not None and given != os.environ.get(_OURS) and Path(given) != _of_torch():
        return f"compiled code is in {given}, as {_VARIABLES[0]} says"
    _set_processes(compiled=False)
    if root is None:
        _set(_temporary())
        return "compiled code is not kept"
    try:
        if not root.parent.exists():
            root = NodeCache().folder / "compiled"
        folder = _open(root.resolve(), versions_of_code(device, plugins))
    except (OSError, WeightStoreError) as error:
        _log.warning(
            "compiled code cannot be kept in %s (%s): it is made for this process alone; give another folder by "
            "--code-cache",
            root,
            reason(error),
        )
        _set(_temporary())
        return "compiled code is not kept"
    _current[:] = [folder]
    _set(folder.path)
    size = folder.bytes
    _set_processes(compiled=size >= 1e6)
    if size < 1e6:
        return f"compiled code is kept in {root}: none yet for these versions, so the first steps take longer"
    return f"compiled code: {size / 1e6:,.0f} MB in {root}"


def _set_processes(*, compiled: bool) -> None:
    """Have torch compile in few processes if most of it is compiled, else in as many as it takes by itself.

    It starts them before it looks into its cache, a core each, and each imports torch: on 32 cores 155 s of processors
    for a run that had nothing to compile. What the environment says stands.
    """
    if "TORCHINDUCTOR_COMPILE_THREADS" not in os.environ:
        usual = _usual_processes()
        torch._inductor.config.compile_threads = min(FEW_PROCESSES, usual) if compiled else usual


@functools.cache
def _usual_processes() -> int:
    import torch._inductor.config

    return int(torch._inductor.config.compile_threads or 1)


def seal_code() -> None:
    """Note what has been compiled, so that the next process trusts it."""
    for folder in _current:
        try:
            folder.seal()
        except OSError as error:
            _log.warning("compiled code in %s is not sealed (%s): it will be compiled again", folder.path, error)


def versions_of_code(device: torch.device | str, plugins: Iterable[str] = ()) -> dict[str, str]:
    """What compiled code depends on besides what was compiled."""
    found = {
        "glorasearch": f"{__version__} {_source_digest(_OPERATORS)}",
        "torch": f"{torch.__version__} {torch.version.git_version}",
        "triton": _version_of("triton"),
        "cuda": str(torch.version.cuda),
        "device": _name_of(torch.device(device)),
        "python": f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}",
    }
    return found | {f"plugin {name}": str(source) for name, source in sorted(plugin_sources(plugins).items())}


def _open(root: Path, versions: dict[str, str]) -> CodeFolder:
    facts = versions | {"folder": str(root)}  # Triton keeps absolute paths
    known = _folders.get(CodeFolder.place(root, facts))
    if known is not None:  # opened earlier by this process, and checked then
        return known
    folder = CodeFolder(root, facts)
    _folders[folder.path] = folder
    if folder.dropped:
        _log.warning(
            "%d files of the compiled code in %s are not as they were left (damaged, foreign, or of a process that was "
            "killed), %s first: they are removed, and made again where they are needed",
            len(folder.dropped),
            folder.path,
            folder.dropped[0],
        )
    return folder


def _set(folder: Path) -> None:
    for variable, compiler in zip(_VARIABLES, COMPILERS, strict=True):
        os.environ[variable] = str(folder / compiler)
    os.environ[_OURS] = os.environ[_VARIABLES[0]]


def _temporary() -> Path:
    _current.clear()
    folder = Path(tempfile.mkdtemp(prefix="glorasearch-code-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _of_torch() -> Path:
    """What torch itself sets, once it has compiled something."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    return Path(default_cache_dir()).absolute()


def _name_of(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)} {major}.{minor}"


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _source_digest(folder: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        found.update(f"{file.relative_to(folder)} ".encode() + file.read_bytes())
    return found.hexdigest()[:16]


atexit.register(seal_code)
