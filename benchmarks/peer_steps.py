"""Training steps of plain models at several settings: what is compiled how, and in which precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from cuda_floors import capture, warm_up
from torch import Tensor, nn

from glorasearch.fused.compiling import compile_blocks


@dataclass(frozen=True)
class Setting:
    """How a model is run."""

    mode: str
    """`captured`: compiled whole, and the step with its optimiser one CUDA graph; `blocks`: the same, compiled block by
    block; `default`, `reduce-overhead` and `max-autotune` are `torch.compile`'s; `static`: not compiled, but as it
    would have to be; or `eager`."""
    precision: str = "autocast"
    """`autocast`: what is trained is kept in float32, what is frozen in bfloat16; or all in `bfloat16` or `float32`."""

    @property
    def trained(self) -> torch.dtype:
        """Of trained parameters."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @property
    def frozen(self) -> torch.dtype:
        """Of frozen parameters."""
        return torch.float32 if self.precision == "float32" else torch.bfloat16

    def __str__(self) -> str:
        return f"{self.mode}, {'autocast' if self.precision == 'autocast' else 'all in ' + self.precision}"


class PlainStep:
    """Forward, backward, clipping to norm 1 and AdamW of all that a model trains."""

    def __init__(self, model: nn.Module, setting: Setting, images: Tensor, labels: Tensor) -> None:
        self._model, self._setting, self._labels = model.train(), setting, labels
        self._device = images.device.type
        self._images = images.to(torch.bfloat16) if setting.precision == "bfloat16" else images
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gpu = self._device == "cuda"
        self._adamw = torch.optim.AdamW(self._parameters, lr=1e-3, weight_decay=1e-4, fused=gpu, capturable=gpu)
        self._replay: Callable[[], object] | None = None
        self.loss = torch.zeros((), device=images.device)
        if setting.mode == "blocks":
            compile_blocks(self._model)
        elif setting.mode not in ("eager", "static"):
            mode = None if setting.mode in ("captured", "default") else setting.mode
            self._model = torch.compile(model, dynamic=False, mode=mode)
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        self.peak = 0
        if setting.mode in ("captured", "blocks") and gpu:
            warm_up(self._step)
            self._adamw.zero_grad(set_to_none=True)
            graph, self.peak = capture(self._step)
            self._replay = graph.replay
        else:
            for _ in range(4):  # reduce-overhead captures in its second or third step
                self._step()

    def _step(self) -> None:
        self._adamw.zero_grad(set_to_none=True)
        mixed = self._setting.precision == "autocast"
        with torch.autocast(self._device, torch.bfloat16) if mixed else nullcontext():
            logits = self._model(self._images)
        loss = F.cross_entropy(logits.float(), self._labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0, foreach=True)
        self._adamw.step()
        self.loss.copy_(loss.detach())

    def __call__(self) -> None:
        """One step; does not wait for it."""
        if self._replay is None:
            self._step()
        else:
            self._replay()

    @property
    def peak_bytes(self) -> int:
        """Largest memory of a step, whatever else is on the GPU included; 0 on a CPU."""
        if self._device != "cuda":
            return 0
        return self.peak or torch.cuda.max_memory_allocated()
