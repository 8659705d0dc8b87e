"""What the fast paths are measured against on a GPU: the same backbone with nothing to adapt."""

from __future__ import annotations

import time
from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BACKBONE = "vit_base_patch16_224"
CLASSES = 10


def backbone(classes: int = CLASSES) -> nn.Module:
    """ViT-B/16 at 224 px with random weights, on the CPU, the same at every call."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(BACKBONE, num_classes=classes)
    return model.eval()


class _Biased(nn.Module):
    """A frozen linear layer in bfloat16 of which only the bias, kept in float32, is trained (the head: weight too)."""

    def __init__(self, linear: nn.Linear, *, whole: bool) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.weight = nn.Parameter(weight.float() if whole else weight.to(torch.bfloat16), requires_grad=whole)
        self.bias = nn.Parameter(linear.bias.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class StepFloor:
    """Biases and head only: forward, gradients of the inputs, clipping and AdamW; bfloat16, compiled, captured.

    No weight of a layer is ever formed and no gradient of one either: a step of any adapter does this much.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        model = backbone().cuda().requires_grad_(False).to(torch.bfloat16)
        for name, module in list(model.named_modules()):
            if type(module) is nn.Linear:
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, _Biased(module, whole=name == "head"))
        self._model = torch.compile(model.train(), dynamic=False)
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._adamw = torch.optim.AdamW(self._parameters, lr=1e-4, fused=True, capturable=True)
        self._images, self._labels = images.to(torch.bfloat16), labels
        warm_up(self._step)
        self._adamw.zero_grad(set_to_none=True)
        self.graph, self.peak = capture(self._step)

    def _step(self) -> None:
        self._adamw.zero_grad(set_to_none=True)
        F.cross_entropy(self._model(self._images).float(), self._labels).backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0, foreach=True)
        self._adamw.step()


class ForwardFloor:
    """The plain forward of some images in one batch; bfloat16, compiled, captured."""

    def __init__(self, images: Tensor) -> None:
        model = backbone().cuda().requires_grad_(False).to(torch.bfloat16)
        self._model = torch.compile(model, dynamic=False)
        self._images = images.to(torch.bfloat16)
        with torch.inference_mode():
            warm_up(self._run)
            self.graph, _ = capture(self._run)

    def _run(self) -> None:
        self._logits = self._model(self._images)


def warm_up(work: Callable[[], None]) -> None:
    """Run on a stream of its own three times, as a capture wants it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()


def capture(work: Callable[[], None]) -> tuple[torch.cuda.CUDAGraph, int]:
    """A CUDA graph, and the largest number of bytes allocated while it was captured."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph, torch.cuda.max_memory_allocated()


def milliseconds(work: Callable[[], object], repeats: int = 50) -> float:
    """Mean wall time of a repeated call, in one go."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats * 1e3
