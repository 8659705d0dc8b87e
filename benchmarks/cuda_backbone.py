"""A ViT-B/16 that has seen something: pretrained in a minute on characters that are drawn by rule.

A search is measured on a backbone that adapts well, as people's backbones do: with random frozen weights every
candidate is wrong about a fourth of the images, and no evaluation can stop early. Published weights have to be fetched
from a network, so the benchmark makes its own. `CHARACTERS` classes; a class is a random broken line of four to six
points in the unit square; an image of it is that line, its points shifted a little, turned, sheared, scaled and moved,
drawn with a random width and brightness on noise.
"""

from __future__ import annotations

import math

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glorasearch.fused import compile_blocks

CHARACTERS, POINTS = 200, 6


class Characters:
    """Draws batches of characters on a device; everything follows from a seed."""

    def __init__(self, device: str, size: int, seed: int = 0) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)
        self._device, self._size = device, size
        strokes = self._uniform(CHARACTERS, POINTS, 2)
        lengths = 4 + (self._uniform(CHARACTERS) * (POINTS - 3)).long().clamp(max=POINTS - 4)
        last = torch.minimum(torch.arange(POINTS, device=device)[None], lengths[:, None] - 1)
        self._strokes = strokes.gather(1, last[..., None].expand(-1, -1, 2))  # a short line ends where it ends
        axis = (torch.arange(size, device=device) + 0.5) / size
        self._grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).view(-1, 2)

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=self._generator, device=self._device) * (high - low) + low

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Images `(count, 3, size, size)`, normalised to [-1, 1], and labels `(count,)`."""
        labels = (self._uniform(count) * CHARACTERS).long().clamp(max=CHARACTERS - 1)
        points = self._strokes[labels] - 0.5 + 0.04 * (self._uniform(count, POINTS, 2) - 0.5)
        angle, scale = self._uniform(count, low=-0.3, high=0.3), self._uniform(count, low=0.55, high=0.85)
        shear = self._uniform(count, low=-0.2, high=0.2)
        cos, sin = angle.cos() * scale, angle.sin() * scale
        turn = torch.stack([torch.stack([cos, shear - sin], -1), torch.stack([sin, cos], -1)], dim=1)
        points = points @ turn.mT + 0.5 + 0.15 * (self._uniform(count, 1, 2) - 0.5)
        start, along = points[:, :-1], points[:, 1:] - points[:, :-1]
        nearest = torch.full((count, len(self._grid)), math.inf, device=self._device)
        for segment in range(POINTS - 1):
            a, d = start[:, segment, None], along[:, segment, None]
            offset = self._grid[None] - a
            share = ((offset * d).sum(-1) / (d.square().sum(-1) + 1e-9)).clamp(0, 1)
            nearest = torch.minimum(nearest, (offset - share[..., None] * d).square().sum(-1))
        width = self._uniform(count, 1, low=0.015, high=0.05)
        ink = torch.sigmoid((width - nearest.sqrt()) * 120) * self._uniform(count, 1, low=0.6, high=1.0)
        noisy = ink + 0.05 * torch.randn(ink.shape, generator=self._generator, device=self._device)
        return noisy.view(count, 1, self._size, self._size).expand(-1, 3, -1, -1) * 2 - 1, labels


def pretrained(name: str, *, steps: int, batch: int = 128, device: str = "cuda", **arguments: object) -> nn.Module:
    """A backbone of timm, trained for some steps on half of each image's patches, in bfloat16; on the CPU, with a head
    for the characters."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=CHARACTERS, patch_drop_rate=0.5, **arguments).to(device)
    size = model.patch_embed.img_size[0]  # type: ignore[union-attr, index]
    characters = Characters(device, size)
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    warmup = min(300, steps // 5)
    running = nn.ModuleDict({"model": model})
    if device == "cuda":
        compile_blocks(running)
    for step in range(steps):
        images, labels = characters.batch(batch)
        progress = (step - warmup) / max(1, steps - warmup)
        factor = (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * progress))
        adamw.param_groups[0]["lr"] = 5e-4 * factor
        with torch.autocast(device, torch.bfloat16):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        adamw.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        if step % 250 == 0 or step == steps - 1:
            share = (logits.argmax(1) == labels).float().mean()
            print(f"pretraining {step + 1}/{steps}: loss {loss:.3f}, {share:.2f} of a batch right", flush=True)
    plain = timm.create_model(name, num_classes=CHARACTERS, **arguments)
    plain.load_state_dict({key.replace(".stack.", "."): value.cpu() for key, value in model.state_dict().items()})
    return plain.eval()
