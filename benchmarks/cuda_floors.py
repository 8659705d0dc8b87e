"""What the fast paths are measured against on a GPU: the same backbone with nothing to adapt."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glorasearch.adapters import head_names
from glorasearch.fused import compile_blocks
from glorasearch.supernet import freeze_statistics

BACKBONE = "vit_base_patch16_224"
CLASSES = 10


def backbone(classes: int = CLASSES, name: str = BACKBONE) -> nn.Module:
    """ViT-B/16 at 224 px, or another one, with random weights, on the CPU, the same at every call."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=classes)
    return model.eval()


class _Biased(nn.Module):
    """A frozen layer in bfloat16 of which only the bias, kept in float32, is trained (the head: weight too).

    A convolution without a bias has one here.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, *, whole: bool) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.weight = nn.Parameter(weight.float() if whole else weight.to(torch.bfloat16), requires_grad=whole)
        given = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
        self.bias = nn.Parameter(given.float())
        self._convolve = layer._conv_forward if isinstance(layer, nn.Conv2d) else None

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return F.linear(x, weight, bias) if self._convolve is None else self._convolve(x, weight, bias)


class StepFloor:
    """Biases and head only: forward, gradients of the inputs, clipping and AdamW; bfloat16, compiled, captured.

    No weight of a layer is ever formed and no gradient of one either: a step of any adapter does this much.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        model: nn.Module | None = None,
        layers: Collection[str] | None = None,
        *,
        convolves: bool = False,
    ) -> None:
        """Of a model (`backbone`), whose head is a linear layer, and of some of its layers (the linear ones).

        It is compiled whole; one that `convolves` has its channels last and is compiled block by block, as
        `glorasearch.fused` does.
        """
        model = (backbone() if model is None else model).cuda().requires_grad_(False).to(torch.bfloat16)
        heads = head_names(model)
        for name, module in list(model.named_modules()):
            wanted = isinstance(module, nn.Linear) if layers is None else name in (*layers, *heads)
            if wanted and isinstance(module, (nn.Linear, nn.Conv2d)):
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, _Biased(module, whole=name in heads))
        freeze_statistics(model.train())
        self._model = model
        if convolves:
            images = images.contiguous(memory_format=torch.channels_last)
            compile_blocks(model.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        else:
            self._model = torch.compile(model, dynamic=False)
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

    def __init__(self, images: Tensor, model: nn.Module | None = None, *, convolves: bool = False) -> None:
        """Of a model (`backbone`), compiled whole; one that `convolves`, with channels last and block by block."""
        model = (backbone() if model is None else model).cuda().requires_grad_(False).to(torch.bfloat16)
        self._images = images.to(torch.bfloat16)
        self._model = model
        if convolves:
            self._images = self._images.contiguous(memory_format=torch.channels_last)
            compile_blocks(model.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        else:
            self._model = torch.compile(model, dynamic=False)
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
