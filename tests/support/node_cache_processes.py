"""Run as a script: several processes at one node cache. Prints what they saw as JSON.

    python -m support.node_cache_processes together|killed|orphaned FOLDER

`together`: processes ask for one weight set at the same time, look at their memory, and write into their tensors.
`killed`: the n-th process is killed just before its n-th touch of the file system in the cache, until one gets to its
end; after each the parent asks for the same weight set. `orphaned`: a process is killed while it fetches and another
one waits for it.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from glorasearch.weights import NodeCache, WeightStore

FLOATS = 1 << 20
PROCESSES = 4
TENSORS = {"w": torch.arange(FLOATS, dtype=torch.float32), "odd": torch.arange(7)}
_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


class Observed(WeightStore):
    """A store in this process's memory that calls something whenever a weight set is read."""

    def __init__(self, on_read: Callable[[], object]) -> None:
        super().__init__("memory://observed")
        self.on_read = on_read

    def read(self, digest: str) -> tuple[bytes, bytes]:
        self.on_read()
        return super().read(digest)


def fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def memory_of(name: str) -> dict[str, int]:
    """KiB by name, summed over the mappings of files of that name."""
    sums: dict[str, int] = {}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            inside = line.endswith(f"/{name}")
        elif inside and words[-1] == "kB":
            sums[words[0][:-1]] = sums.get(words[0][:-1], 0) + int(words[1])
    return sums


def together(folder: Path) -> list[dict[str, Any]]:
    store = Observed(lambda: (folder / "reads").open("a").write("read\n"))
    digest = store.put(TENSORS, {})
    ready = os.pipe()
    go = [os.pipe() for _ in range(PROCESSES)]

    def work(number: int) -> None:
        def everyone_is_here() -> None:
            os.write(ready[1], b".")
            assert os.read(go[number][0], 1)

        everyone_is_here()
        tensors = NodeCache(folder / "cache").get(store, digest).tensors
        total = tensors["w"].sum().item()
        everyone_is_here()
        shared = memory_of("weights.safetensors")
        everyone_is_here()
        tensors["w"][:10] = number
        everyone_is_here()
        told = {"sum": total, "memory": shared, "written": tensors["w"][:11].tolist()}
        (folder / f"told-{number}").write_text(json.dumps(told))

    children = [fork(lambda number=number: work(number)) for number in range(PROCESSES)]
    for _ in range(4):
        for _ in children:
            assert os.read(ready[0], 1)
        for _, end in go:
            os.write(end, b".")
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    return [json.loads((folder / f"told-{number}").read_text()) for number in range(PROCESSES)]


def killed(base: Path) -> list[dict[str, Any]]:
    store = WeightStore("memory://killed")
    digest = store.put(TENSORS, {})
    results: list[dict[str, Any]] = []
    while not results or results[-1]["killed"]:
        folder = base / f"touch-{len(results) + 1}"

        def work(folder: Path = folder, touch: int = len(results) + 1) -> None:
            count = 0

            def hook(event: str, arguments: tuple[object, ...]) -> None:
                nonlocal count
                if event in _EVENTS and str(arguments[0]).startswith(str(folder)):
                    count += 1
                    if count == touch:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            NodeCache(folder).get(store, digest)

        status = os.waitpid(fork(work), 0)[1]
        stored = NodeCache(folder).get(store, digest)
        results.append(
            {
                "killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
                "right": all(torch.equal(stored.tensors[name], TENSORS[name]) for name in TENSORS),
                "files": sorted(path.name.removeprefix(digest) for path in folder.iterdir()),
            }
        )
    assert status == 0
    return results


def orphaned(folder: Path) -> list[dict[str, Any]]:
    fetching, waiting = os.pipe(), os.pipe()

    def never_done() -> None:
        os.write(fetching[1], b".")
        signal.pause()

    store = Observed(never_done)
    digest = store.put(TENSORS, {})
    first = fork(lambda: NodeCache(folder).get(store, digest) and None)
    assert os.read(fetching[0], 1)

    def second_work() -> None:
        class Tell(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "waiting for another process" in record.getMessage():
                    os.write(waiting[1], b".")

        logging.getLogger("glorasearch").addHandler(Tell())
        logging.getLogger("glorasearch").setLevel(logging.INFO)
        store.on_read = lambda: None
        assert torch.equal(NodeCache(folder).get(store, digest).tensors["w"], TENSORS["w"])

    second = fork(second_work)
    assert os.read(waiting[0], 1)
    os.kill(first, signal.SIGKILL)
    return [{"status": os.waitpid(child, 0)[1]} for child in (first, second)]


if __name__ == "__main__":
    place = Path(sys.argv[2])
    place.mkdir(parents=True, exist_ok=True)
    print(json.dumps({"together": together, "killed": killed, "orphaned": orphaned}[sys.argv[1]](place)))
