"""The images of a training step, augmented on the device where the training is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from glorasearch.data import InputSpec, TrainSplit
from glorasearch.training.augment.colour import COLOUR_OPERATIONS, jitter
from glorasearch.training.augment.config import Augmentation
from glorasearch.training.augment.draws import Draws
from glorasearch.training.augment.geometry import flip, maps, resample
from glorasearch.training.augment.policy import OPERATIONS, Floats, Ints
from glorasearch.training.augment.rectangles import Eraser, mix_images, mix_targets

CHUNK: Final = 256
"""Images that are augmented at once."""


class Augmenter:
    """Augments images of one training split, by draws that were made before.

    All images of a batch at once, with an argument for each; what an image becomes does not depend on the others
    (up to the rounding of sums on GPUs), unless it is mixed with one. Nothing waits for the device: the draws go there
    in one copy, and which images an operation is for is known on the CPU. It happens before the step, whose captured
    graph takes the result as it takes plain images.
    """

    def __init__(self, augmentation: Augmentation, split: TrainSplit) -> None:
        self._augmentation, self._split, self._spec = augmentation, split, split.spec
        self._erase = Eraser(augmentation.remode)
        self._constants: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def images(self, indices: Tensor, draws: Draws, device: torch.device) -> Tensor:
        """`(n, C, H, W)` float32, normalised: images at `indices (n,)` of the split, each by its row of the draws.

        They are not mixed with each other. At most `CHUNK` of them at once: the steps in between take several times
        the memory of the result.
        """
        if len(indices) <= CHUNK:
            return self._images(indices, draws, device)
        rows = np.arange(len(indices))
        parts = [rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK)]
        return torch.cat([self._images(indices[part[0] : part[-1] + 1], draws.rows(part), device) for part in parts])

    def _images(self, indices: Tensor, draws: Draws, device: torch.device) -> Tensor:
        given, spec = self._augmentation, self._spec
        moves = given.policy is not None and given.policy.geometric
        flips = bool(given.hflip or given.vflip)
        pixels = self._split.view(indices, device, "larger" if given.crops else "plain").to(torch.float32)
        mean, std = self._constants_on(pixels.device)
        sent = _Sent(draws, maps(draws, spec.height, spec.width), pixels.device)
        if given.crops or moves:
            pixels = resample(pixels, sent.theta, spec.height, spec.width, mean * 255 if moves else None)
        elif flips:
            pixels = flip(pixels, sent.flips)
        if any(given.jitter):
            pixels = jitter(pixels, sent.jitter, sent.order)
        for name, chosen, arguments in sent.operations:
            pixels[chosen] = COLOUR_OPERATIONS[name](pixels[chosen], arguments.view(-1, 1, 1, 1))
        images = torch.addcmul(-mean / std, pixels, 1 / (255 * std))  # one pass over the images, not three
        if len(sent.erased):
            at = sent.erased
            images[at] = self._erase(images[at], sent.rectangles[at], sent.colour[at], sent.noise[at])
        return images

    @torch.no_grad()
    def mixed(
        self, images: Tensor, others: Tensor, targets: Tensor, targets_of_others: Tensor, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Augmented images `(n, C, H, W)` mixed with others, and the targets `(n, K)` of the mixtures."""
        share, pasted = _send([draws.share, draws.pasted], images.device)
        mixed, own = mix_images(images, others, share, pasted)
        return mixed, mix_targets(targets, targets_of_others, own, self._split.classes)

    def _constants_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and deviation, `(C, 1, 1)` each."""
        if device not in self._constants:
            self._constants[device] = _constant(self._spec, "mean", device), _constant(self._spec, "std", device)
        return self._constants[device]


class _Sent:
    """Draws on a device, where they arrive in one copy."""

    def __init__(self, draws: Draws, theta: Floats, device: torch.device) -> None:
        groups = [
            (name, np.flatnonzero(codes == OPERATIONS.index(name)), values)
            for codes, values in zip(draws.operations.T, draws.arguments.T, strict=True)
            for name in COLOUR_OPERATIONS
        ]
        groups = [(name, chosen, values[chosen]) for name, chosen, values in groups if len(chosen)]
        erased = np.flatnonzero(draws.erased.any(axis=1))
        floats = [theta, draws.flips, draws.jitter, draws.erased, draws.colour, *(values for _, _, values in groups)]
        whole = [draws.jitter_order, draws.noise, erased, *(chosen for _, chosen, _ in groups)]
        found = _send([*floats, *whole], device)
        self.theta, self.flips, self.jitter, self.rectangles, self.colour = found[:5]
        order, noise, at, *chosen = (one.long() for one in found[len(floats) :])
        self.order, self.noise, self.erased = order, noise, at
        values = found[5 : len(floats)]
        self.operations = list(zip((name for name, _, _ in groups), chosen, values, strict=True))


def _send(arrays: Sequence[Floats | Ints], device: torch.device) -> list[Tensor]:
    """Arrays as float32 on a device, in one copy that does not block; whole numbers up to 2²⁴ stay exact."""
    flat = torch.from_numpy(np.concatenate([one.ravel() for one in arrays]).astype(np.float32))
    if device.type == "cuda":
        flat = flat.pin_memory().to(device, non_blocking=True)
    parts = torch.split(flat, [one.size for one in arrays])
    return [part.view(one.shape) for part, one in zip(parts, arrays, strict=True)]


def _constant(spec: InputSpec, name: str, device: torch.device) -> Tensor:
    return torch.tensor(getattr(spec, name), device=device).view(-1, 1, 1)
