"""Run as a script: fork a writer again and again and SIGKILL each one at another moment of its work.

    python -m support.killed_writer store|checkpoint|export BASE

The n-th writer works in `BASE/touch-<n>` and is killed just before its n-th touch of the file system there (an open, a
rename, a link, a removal), which Python reports as audit events, until one gets to its end. Then some more are killed
by the parent while their file is growing. Prints a JSON list of {directory, moment, killed}.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from glorasearch.weights import WeightStore, save_checkpoint

_EVENTS = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
_BYTES = 12 << 20


def put(directory: Path) -> None:
    WeightStore(str(directory / "store")).put(
        {"w": torch.full((_BYTES // 4,), 2.0), "i": torch.arange(5)}, {"run": "r"}
    )


def checkpoint(directory: Path) -> None:
    save_checkpoint(directory / "last.safetensors", {"w": torch.full((_BYTES // 4,), 3.0)}, {"step": 3})


def export(directory: Path) -> None:
    from glorasearch.export import BackboneFacts, export_timm
    from glorasearch.space import Subnet

    torch.manual_seed(0)
    model = timm_model()
    images = torch.randn(2, 1, 16, 16)
    export_timm(
        model.eval(),
        directory / "export",
        backbone=BackboneFacts.from_model(model),
        inputs=images,
        reference=model,
        subnet=Subnet({}),
    )


def timm_model() -> torch.nn.Module:
    import timm

    model: torch.nn.Module = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=16,
        patch_size=4,
        embed_dim=64,
        depth=2,
        num_heads=2,
        in_chans=1,
        num_classes=10,
    )
    return model


def nothing(directory: Path) -> None:
    if sys.argv[1] == "export":
        timm_model()  # imported once, before the forks


def two_checkpoints(directory: Path) -> None:
    for step in (1, 2):
        save_checkpoint(directory / "last.safetensors", {"w": torch.full((4,), float(step))}, {"step": step})


def kill_at_touch(n: int, directory: Path) -> Callable[[str, tuple[object, ...]], None]:
    count = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event in _EVENTS and str(arguments[0]).startswith(str(directory)):
            count += 1
            if count == n:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child


def killed_at_touches(write: Callable[[Path], None], prepare: Callable[[Path], None], base: Path) -> list[dict]:
    results = []
    for n in range(1, 200):
        directory = base / f"touch-{n}"
        directory.mkdir(parents=True)
        prepare(directory)

        def work(n: int = n, directory: Path = directory) -> None:
            sys.addaudithook(kill_at_touch(n, directory))
            write(directory)

        status = os.waitpid(fork(work), 0)[1]
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        results.append({"directory": str(directory), "moment": f"touch {n}", "killed": killed})
        if not killed:
            assert status == 0
            return results
    raise AssertionError("the writer never came to its end")


def killed_while_growing(write: Callable[[Path], None], prepare: Callable[[Path], None], base: Path) -> list[dict]:
    results = []
    for n, size in enumerate((1, _BYTES // 3, _BYTES - (2 << 20))):
        directory = base / f"size-{n}"
        directory.mkdir(parents=True)
        prepare(directory)
        child = fork(lambda directory=directory: write(directory))
        ended, status = 0, 0
        while largest(directory) < size and not ended:
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        results.append(
            {"directory": str(directory), "moment": f"{size} bytes written", "killed": os.WIFSIGNALED(status)}
        )
    return results


def largest(directory: Path) -> int:
    sizes = [0]
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                sizes.append(os.stat(os.path.join(folder, name)).st_size)
            except FileNotFoundError:
                continue
    return max(sizes)


if __name__ == "__main__":
    kinds = {"store": (put, nothing), "checkpoint": (checkpoint, two_checkpoints), "export": (export, nothing)}
    writer, first = kinds[sys.argv[1]]
    where = Path(sys.argv[2])
    print(json.dumps(killed_at_touches(writer, first, where) + killed_while_growing(writer, first, where)))
