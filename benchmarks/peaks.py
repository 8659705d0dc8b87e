"""A card's dense bfloat16 rate: by the vendor's data sheet, and by a large product of matrices."""

from __future__ import annotations

import re
import time

import torch

TERA = 1e12

PEAKS: tuple[tuple[str, float], ...] = (
    (r"\bB200\b", 2250.0),
    (r"\bGH200\b", 989.4),
    (r"\bH200 NVL\b", 835.5),
    (r"\bH200\b", 989.4),
    (r"\bH100 NVL\b", 835.5),
    (r"\bH100 PCIe\b", 756.0),
    (r"\bH100\b", 989.4),
    (r"\bH800 PCIe\b", 756.0),
    (r"\bH800\b", 989.4),
    (r"\bH20\b", 148.0),
    (r"\bA(100|800)\b", 312.0),
    (r"\bA30\b", 165.0),
    (r"\bA40\b", 149.7),
    (r"\bA10G\b", 70.0),
    (r"\bA10\b", 125.0),
    (r"\bL40S\b", 362.1),
    (r"\bL40\b", 181.1),
    (r"\bL4\b", 121.0),
    (r"\bRTX 6000 Ada\b", 364.2),
    (r"\bRTX A6000\b", 154.8),
    (r"\bRTX 4090\b", 165.2),
    (r"\bRTX 3090\b", 71.2),
)
"""TFLOP/s of dense bfloat16 products with float32 sums; the first pattern that a device's name has counts."""


def peak_of(name: str | None) -> float | None:
    """FLOP/s of a device by its name, as `torch.cuda.get_device_name` has it; None if the table does not know it."""
    return next((rate * TERA for pattern, rate in PEAKS if name and re.search(pattern, name)), None)


def current_peak() -> float | None:
    """That of the current GPU; None without one."""
    return peak_of(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def product_rate(size: int = 8192, seconds: float = 0.5, device: str = "cuda") -> float:
    """FLOP/s that a product of two bfloat16 matrices `(size, size)` reaches here: what a step could at best."""
    a, b = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    out = torch.mm(a, b)
    wait()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(10 if device == "cuda" else 1):
            torch.mm(a, b, out=out)
            done += 1
        wait()
    return done * 2 * size**3 / (time.perf_counter() - began)
