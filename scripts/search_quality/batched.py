"""M adapted models on one frozen backbone, trained side by side in one step.

The models differ in everything that is data: choices, learning rate, weight decay, label smoothing, number of steps,
order of images, training set, targets, start. What they share is the shape of the step: batch size and backbone.

A step merges each model's weights (`W = W0 + W0⊙A + B`, as an exported model has them), runs the images of all models
as one stack through the backbone with one batched product a layer, and updates all rows with one AdamW. On a GPU the
whole step is one CUDA graph, and the element-wise work between the products is compiled.

A *supernet* is the same thing with several rows of the stack drawing on one row of parameters: `paths` subnets a step.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from batched_model import BatchedModel
from shape import Shape
from torch import Tensor


class BatchedTraining:
    """Trains the rows of a `Shape`; load rows with `load`, then `run`.

    Args:
        model: the batched model; it is moved to the device.
        shape: of the step.
        images: `(n, 3, H, W)` uint8, or floating point that is taken as it is.
        targets: `(t, classes)`: distributions over the classes.
        normalise: mean and standard deviation by which bytes / 255 are normalised.
        graphed: capture the step as a CUDA graph; `compiled`: compile the blocks, the merge and the update.
        clip: largest norm of a row's gradient; 0 for none.
    """

    def __init__(
        self,
        model: BatchedModel,
        shape: Shape,
        images: Tensor,
        targets: Tensor,
        *,
        device: str,
        normalise: tuple[float, float] = (0.5, 0.5),
        dtype: torch.dtype = torch.float32,
        graphed: bool = False,
        compiled: bool = False,
        clip: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.model, self.shape, self.layout = model.to(device), shape, model.layout
        self.images, self.targets = images.to(device), targets.to(device, dtype)
        self.normalise, self.clip, self.betas, self.eps = normalise, clip, betas, eps
        self.device, self.dtype = device, dtype
        models, rows, columns = shape.models, shape.rows, self.layout.columns

        def zeros(*size: int, kind: torch.dtype = dtype) -> Tensor:
            return torch.zeros(size, dtype=kind, device=device)

        self.theta = zeros(models, columns).requires_grad_()
        self.first, self.second, self.ema = zeros(models, columns), zeros(models, columns), zeros(models, columns)
        self.count = zeros(models, columns if shape.drawn else 1)
        """How often a column was stepped (for a supernet), or a row."""
        self.mask = zeros(rows, columns, kind=torch.uint8)
        self.rates = zeros(models, 3)
        """Peak learning rates of factors, vectors and the head."""
        self.decay, self.smoothing, self.total, self.warmup = (zeros(models, 1) for _ in range(4))
        self.ema_decay, self.allowed = zeros(models, 1), zeros(models, self.targets.shape[1])
        self.step_number = zeros(kind=torch.int64)
        self.image_order = zeros(shape.steps, rows, shape.batch, kind=torch.int32)
        self.target_order = zeros(shape.steps, rows, shape.batch, kind=torch.int32)
        genes = len(self.layout.genes)
        self.codes = zeros(shape.steps if shape.drawn else 1, rows, genes, kind=torch.uint8)
        self.losses = zeros(shape.steps, models)
        self.group = self.layout.group.to(device)
        for name in ("gene_of", "bits"):
            setattr(self.layout, name, getattr(self.layout, name).to(device))
        self._keeps = [torch.ones(rows, dtype=dtype, device=device) for _ in model.drops]
        self._compiled = compiled
        if compiled:
            for block in model.model.blocks:  # type: ignore[union-attr]
                block.compile(dynamic=False)
        self._merge = torch.compile(model.merge, dynamic=False) if compiled else model.merge
        self._update = torch.compile(self._adamw, dynamic=False) if compiled else self._adamw
        self._graph: torch.cuda.CUDAGraph | None = None
        self._graphed = graphed

    def load(
        self,
        *,
        start: Tensor,
        codes: Tensor,
        rates: Tensor,
        image_order: Tensor,
        target_order: Tensor | None = None,
        steps: Tensor | None = None,
        warmup: Tensor | float = 50.0,
        decay: Tensor | float = 1e-4,
        smoothing: Tensor | float = 0.0,
        ema_decay: Tensor | float = 0.99,
        allowed: Tensor | None = None,
        drop_path: Tensor | float = 0.0,
    ) -> None:
        """Set all rows anew.

        Args:
            start: `(models, P)`.
            codes: `(rows, G)`, or `(steps, rows, G)` for drawn subnets.
            rates: `(models, 3)` peak rates of factors, vectors, head.
            image_order: `(steps, rows, batch)` indices of images; `target_order` those of targets (the same if None).
            steps: `(models,)` length of each row's schedule.
            warmup, decay, smoothing, ema_decay: one number, or `(models,)`.
            allowed: `(models, classes)` of 0 and 1: the classes of the row's task.
            drop_path: one rate, or `(rows,)`: that of the last block, growing linearly from 0.
        """
        device = self.device
        with torch.no_grad():
            self.theta.copy_(start)
            for moment in (self.first, self.second, self.count, self.step_number, self.losses):
                moment.zero_()
            self.ema.copy_(start)
            self.rates.copy_(rates)
            length = len(image_order)
            self.image_order[:length].copy_(image_order)
            self.target_order[:length].copy_(image_order if target_order is None else target_order)
            columns = {"decay": decay, "smoothing": smoothing, "warmup": warmup, "ema_decay": ema_decay}
            columns["total"] = float(length) if steps is None else steps
            for name, value in columns.items():
                line = torch.as_tensor(value, dtype=self.dtype, device=device)
                getattr(self, name).copy_(line.reshape(-1, 1).expand(self.shape.models, 1))
            self.allowed.copy_(torch.ones_like(self.allowed) if allowed is None else allowed)
            codes = codes.to(device)
            if self.shape.drawn:
                self.codes[: len(codes)].copy_(codes)
            else:
                self.codes[0].copy_(codes)
                self.mask.copy_(self.layout.mask(codes.long()))
            keep = 1 - torch.as_tensor(drop_path, dtype=self.dtype, device=device)
            for index, own in enumerate(self._keeps):
                share = (index // 2) / max(1, len(self._keeps) // 2 - 1)
                own.copy_((1 - (1 - keep) * share).expand(self.shape.rows))
        self.model.train(bool(self.model.drops))
        self.length = length

    def run(self, steps: int | None = None) -> None:
        """Train for some steps (those of the longest order if not given)."""
        steps = self.length if steps is None else steps
        if not self._graphed:
            for _ in range(steps):
                self._step()
            return
        if self._graph is None:
            self._capture()
        assert self._graph is not None
        for _ in range(steps):
            self._graph.replay()

    def _capture(self) -> None:
        kept = [t.detach().clone() for t in self._state()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._step()
        with torch.no_grad():
            for tensor, value in zip(self._state(), kept, strict=True):
                tensor.copy_(value)

    def _state(self) -> list[Tensor]:
        return [self.theta, self.first, self.second, self.ema, self.count, self.mask, self.step_number, self.losses]

    def _pixels(self, index: Tensor) -> Tensor:
        images = self.images[index.long()]
        if images.dtype == torch.uint8:
            mean, deviation = self.normalise
            images = (images.to(torch.float32) / 255 - mean) / deviation
        return images

    def _step(self) -> None:
        shape = self.shape
        now = self.step_number
        index = self.image_order.index_select(0, now[None])[0]
        wanted = self.target_order.index_select(0, now[None])[0]
        if shape.drawn:
            codes = self.codes.index_select(0, now[None])[0]
            self.mask.copy_(self.layout.mask(codes.long()))
        for drop, keep in zip(self.model.drops, self._keeps, strict=True):
            drop.keep = keep
        theta = self.theta if shape.paths == 1 else self.theta.repeat_interleave(shape.paths, 0)
        self.model.install(self._merge(theta, self.mask))
        logits = self.model(self._pixels(index.flatten())).to(self.dtype)
        loss = self._loss(logits, self.targets[wanted.long()])
        (gradient,) = torch.autograd.grad(loss.sum(), self.theta)
        with torch.no_grad():
            self._update(gradient.detach(), loss.detach())

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """`(models,)`: the mean loss of each row's paths, of `(rows, B, classes)` logits and targets."""
        paths = self.shape.paths
        allowed = self.allowed.repeat_interleave(paths, 0)[:, None]
        smoothing = self.smoothing.repeat_interleave(paths, 0)[:, None]
        logs = F.log_softmax(logits + (allowed - 1) * 1e4, dim=-1)
        targets = targets * (1 - smoothing) + smoothing * allowed / allowed.sum(-1, keepdim=True)
        if self.shape.distilled and paths > 1:
            grouped = logs.detach().exp().unflatten(0, (-1, paths))
            teacher = grouped[:, :1].expand_as(grouped)
            own = targets.unflatten(0, (-1, paths))
            targets = torch.cat([own[:, :1], teacher[:, 1:]], 1).flatten(0, 1)
        each = -(targets * logs * allowed).sum(-1).mean(-1)
        return each.unflatten(0, (-1, paths)).mean(1)

    def _adamw(self, gradient: Tensor, loss: Tensor) -> None:
        """One AdamW step of all rows with their own rates, and the moving average."""
        now = self.step_number.to(self.dtype)
        progress = (now - self.warmup) / (self.total - self.warmup).clamp(min=1)
        cosine = 0.5 * (1 + torch.cos(math.pi * progress.clamp(max=1)))
        factor = torch.where(now < self.warmup, (now + 1) / (self.warmup + 1), cosine)
        factor = torch.where(now < self.total, factor, torch.zeros_like(factor))
        if self.clip:
            norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient = gradient * (self.clip / (norm + 1e-6)).clamp(max=1)
        one, two = self.betas
        if self.shape.drawn:
            used = self.mask.unflatten(0, (self.shape.models, -1)).amax(1).to(self.dtype)
        else:
            used = torch.ones_like(self.count)
        count = self.count + used
        rate = factor * self.rates[:, self.group]
        first = self.first + used * (1 - one) * (gradient - self.first)
        second = self.second + used * (1 - two) * (gradient * gradient - self.second)
        seen = count.clamp(min=1)
        step = (first / (1 - one**seen)) / ((second / (1 - two**seen)).sqrt() + self.eps)
        theta = self.theta * (1 - used * rate * self.decay) - used * rate * step
        self.first.copy_(first)
        self.second.copy_(second)
        self.count.copy_(count)
        self.ema.copy_(theta + self.ema_decay * (self.ema - theta))
        self.theta.copy_(theta)
        self.losses.index_copy_(0, self.step_number[None], loss[None].to(self.dtype))
        self.step_number.add_(1)

    @torch.no_grad()
    def logits(self, theta: Tensor, codes: Tensor, index: Tensor, chunk: int = 128) -> Tensor:
        """Logits `(M, n, classes)` of each row's own images, `index (M, n)`; no class is masked."""
        self.model.eval()
        with _eager() if self._compiled else nullcontext():
            self.model.install(self.model.merge(theta, self.layout.mask(codes.to(self.device).long())))
            parts = [
                self.model(self._pixels(part.flatten().to(self.device))).float() for part in index.split(chunk, dim=1)
            ]
        self.model.train(bool(self.model.drops))
        return torch.cat(parts, 1)

    @torch.no_grad()
    def average_logits(self, weights: Tensor, theta: Tensor, codes: Tensor, index: Tensor, chunk: int = 128) -> Tensor:
        """Logits of averaged merged weights: `weights (K, M)` mixes the M rows into K models; `index (K, n)`."""
        self.model.eval()
        with _eager() if self._compiled else nullcontext():
            merged = self.model.merge(theta, self.layout.mask(codes.to(self.device).long()))
            mixed = [
                (
                    _mix(weights.to(self.device), weight).to(weight.dtype),
                    _mix(weights.to(self.device), bias).to(bias.dtype),
                )
                for weight, bias in merged
            ]
            self.model.install(mixed)
            parts = [
                self.model(self._pixels(part.flatten().to(self.device))).float() for part in index.split(chunk, dim=1)
            ]
        self.model.train(bool(self.model.drops))
        return torch.cat(parts, 1)


def _mix(weights: Tensor, values: Tensor) -> Tensor:
    """`(K, M)` times `(M, ...)`."""
    return (weights.to(torch.float32) @ values.flatten(1).to(torch.float32)).view(len(weights), *values.shape[1:])


def _eager() -> AbstractContextManager[None]:
    return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return, no-untyped-call]
