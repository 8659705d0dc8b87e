"""Where workers compute: one on each GPU, or groups of cores."""

from __future__ import annotations

import os

from gpu_tests.cards import cards_here

from suite_parts.work import Place

GPU_THREADS = 4
"""Of a unit on a GPU, which computes little on the CPU; many more wait for each other where a machine is busy."""


def device_of(wanted: str) -> str:
    """`cpu` or `cuda`; `auto` is a GPU if there is one.

    Raises:
        ValueError: if there is no such device.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise ValueError(f"--device {wanted}: expected auto, cpu or cuda (all GPUs that CUDA_VISIBLE_DEVICES allows)")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this machine has no CUDA device")
    return wanted


def places_of(device: str, jobs: int | None) -> list[Place]:
    """One place for each job, on GPUs in turn; by default a job a GPU, or one on all cores.

    A GPU that does several units at a time does more of them in an hour, but their seconds mean little: costs are
    compared between units that had it for themselves, where there are such.
    """
    cores = os.cpu_count() or 1
    if device == "cpu":
        count = jobs or 1
        return [Place(number, None, max(1, cores // count)) for number in range(count)]
    gpus = cards_here()
    count = jobs or len(gpus)
    each = -(-count // len(gpus))
    threads = max(1, min(GPU_THREADS, cores // count))
    return [Place(number, gpus[number % len(gpus)], threads, each) for number in range(count)]
