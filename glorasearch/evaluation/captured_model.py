"""The merged model on a GPU: all layers merged by two launches per bank, the forward compiled and captured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from glorasearch.code_cache import seal_code
from glorasearch.evaluation.merged_model import MergedModel
from glorasearch.fused import CODE_WIDTH, MergedWeights, compile_blocks, pool_of, static_model
from glorasearch.space import Subnet
from glorasearch.supernet import Supernet

GRAPHS: Final = 64
"""Batches of images that have their own CUDA graph, which reads them where they are."""


class CapturedModel(MergedModel):
    """A candidate is a small table of codes; CUDA graphs do the rest, in bfloat16 under autocast as in training.

    Weights are merged in float32 from the current storages on the device and rounded once; only the layers whose
    choices differ from the previous candidate's are merged.
    """

    dtype = torch.bfloat16

    def __init__(self, supernet: Supernet, device: torch.device | str) -> None:
        """The supernet must be on that device already."""
        self._supernet, self.device = supernet, torch.device(device)
        self._build()

    def _build(self) -> None:
        supernet, device = self._supernet, self.device
        self._space = supernet.space
        self._pool = pool = pool_of(supernet)
        self._merged = merged = MergedWeights(pool, self.dtype, training=False)
        self._model = static_model(supernet, merged.layers(), self.dtype, share_head=False).eval()
        self._heads = [
            (self._model.get_parameter(name), parameter) for name, parameter in supernet.head_parameters().items()
        ]
        compile_blocks(self._model)
        self._codes = torch.zeros(len(pool.layer_names), 5, CODE_WIDTH, dtype=torch.int32, device=device)
        self._tables: dict[Subnet, Tensor] = {}
        self._staged = torch.zeros(self._codes.shape, dtype=torch.int32).pin_memory()
        self._uploaded = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._merge: torch.cuda.CUDAGraph | None = None
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._memory = torch.cuda.graph_pool_handle()
        self._staging: Tensor | None = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the head; the storages are read where they are."""
        if not self._pool.valid:  # it was moved meanwhile
            self._supernet.to(self.device)
            self._build()
            return
        for own, source in self._heads:
            own.copy_(source)
        self._merged.forget()

    @torch.inference_mode()
    def prove(self, images: Tensor) -> None:
        """Compile, capture and run for a batch of this shape; raises whatever error prevents it."""
        self.write(self._space.largest())
        self.forward(images.to(self.dtype))
        torch.cuda.synchronize()
        self._graphs.clear()
        seal_code()

    def _run(self, images: Tensor) -> Tensor:
        if self._pool.convolves:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", self.dtype):
            logits: Tensor = self._model(images)
        return logits.float()

    def prepare(self, subnet: Subnet) -> None:
        """Make and keep the table of codes."""
        self._space.check(subnet)
        self._tables[subnet] = torch.tensor(self._pool.codes(subnet), dtype=torch.int32)

    def write(self, subnet: Subnet) -> None:
        """Upload the codes and merge the layers that change."""
        if subnet not in self._tables:
            self.prepare(subnet)
        table = self._tables.pop(subnet)
        self._uploaded.synchronize()  # the previous table has been copied
        self._staged.copy_(table)
        self._codes.copy_(self._staged, non_blocking=True)
        self._uploaded.record()
        if self._merge is None:
            self._merged.fill(self._codes)
            self._merge = self._captured(lambda: self._merged.fill(self._codes))
        self._merge.replay()

    def _forward(self, images: Tensor) -> Tensor:
        """Replay the forward; the logits are overwritten when the same images are passed again."""
        place = images.data_ptr()
        if place not in self._graphs:
            if len(self._graphs) == GRAPHS:  # images at a new address for every candidate: copied to one place
                images, place = self._stage(images)
            if place not in self._graphs:
                logits = self._run(images)
                self._graphs[place] = self._captured(lambda: logits.copy_(self._run(images))), logits
        graph, logits = self._graphs[place]
        graph.replay()
        return logits

    def _forward_part(self, images: Tensor) -> Tensor:
        """Run eagerly: compiling and capturing for another batch size would need more memory."""
        with torch.compiler.set_stance("force_eager"):
            return self._run(images)

    def _stage(self, images: Tensor) -> tuple[Tensor, int]:
        if self._staging is None:
            self._staging = torch.empty_like(images)
            self._graphs.pop(next(iter(self._graphs)))
        self._staging.copy_(images)
        return self._staging, self._staging.data_ptr()

    def _captured(self, work: Callable[[], object]) -> torch.cuda.CUDAGraph:
        """A CUDA graph of work that has run once before."""
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory):
            work()
        return graph
