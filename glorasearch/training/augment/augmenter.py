"""The images of a training step, augmented on the device where the training is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from glorasearch.data import InputSpec, TrainSplit
from glorasearch.training.augment.colour import jitter
from glorasearch.training.augment.config import Augmentation
from glorasearch.training.augment.draws import Draws
from glorasearch.training.augment.geometry import flip, maps, resample
from glorasearch.training.augment.passes import passes
from glorasearch.training.augment.policy import Floats, Ints
from glorasearch.training.augment.rectangles import Eraser, Floats32, Mixing, edges, mix_images, mix_targets

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
        self._constants: dict[torch.device, _Constants] = {}

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
        pixels = self._split.view(indices, device, "larger" if given.crops else "plain")
        constants = self._constants_on(pixels.device)
        sent = _Sent(draws, maps(draws, spec.height, spec.width), spec, pixels.device)
        if given.crops or moves:
            pixels = resample(pixels, sent.theta, spec.height, spec.width, constants.fill if moves else None)
        else:
            pixels = (flip(pixels, sent.flips) if flips else pixels).to(torch.float32)
        if any(given.jitter):
            pixels = jitter(pixels, sent.jitter, sent.order)
        for one, chosen, arguments in sent.passes:
            pixels[chosen] = one.run(pixels[chosen], arguments)
        images = torch.addcmul(constants.offset, pixels, constants.scale)  # one pass over the images, not three
        if len(sent.erased):
            at = sent.erased
            images[at] = self._erase(images[at], sent.across, sent.along, sent.colour, sent.noise)
        return images

    @torch.no_grad()
    def mixed(
        self, images: Tensor, others: Tensor, targets: Tensor, targets_of_others: Tensor, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Augmented images `(n, C, H, W)` mixed with others, and the targets `(n, K)` of the mixtures."""
        mixing = Mixing(draws.share, draws.pasted, *images.shape[-2:])
        own, *arrays = _send([mixing.own, *mixing.arrays], [], images.device)
        return mix_images(images, others, *arrays), mix_targets(targets, targets_of_others, own, self._split.classes)

    def _constants_on(self, device: torch.device) -> _Constants:
        if device not in self._constants:
            self._constants[device] = _Constants.of(self._spec, device)
        return self._constants[device]


class _Constants(NamedTuple):
    """Of the normalisation, `(C, 1, 1)` each: a pixel becomes offset + scale · pixel; `fill` is the mean colour."""

    offset: Tensor
    scale: Tensor
    fill: Tensor

    @classmethod
    def of(cls, spec: InputSpec, device: torch.device) -> Self:
        """On a device."""
        with torch.inference_mode(False):  # they are kept
            mean, std = (torch.tensor(one).view(-1, 1, 1) for one in (spec.mean, spec.std))
            offset, scale, fill = (one.to(device) for one in (-mean / std, 1 / (255 * std), mean * 255))
            return cls(offset, scale, fill)


class _Sent:
    """Draws on a device, where they arrive in one copy."""

    def __init__(self, draws: Draws, theta: Floats, spec: InputSpec, device: torch.device) -> None:
        todo = passes(draws.operations, draws.arguments)
        erased = np.flatnonzero(draws.erased.any(axis=1))
        across, along = edges(draws.erased[erased], spec.height, spec.width)
        floats: list[Floats | Floats32] = [theta, draws.flips, draws.jitter, across, along, draws.colour[erased]]
        whole = [draws.jitter_order, draws.noise[erased], erased, *(one.images for one in todo)]
        found = _send([*floats, *(one.arguments for one in todo)], whole, device)
        self.theta, self.flips, self.jitter, self.across, self.along, self.colour = found[: len(floats)]
        values, rest = found[len(floats) : -len(whole)], found[-len(whole) :]
        self.order, self.noise, self.erased, *chosen = rest
        self.passes = list(zip(todo, chosen, values, strict=True))


def _send(arrays: Sequence[Floats | Floats32], whole: Sequence[Ints], device: torch.device) -> list[Tensor]:
    """Arrays as float32, and then whole numbers up to 2²⁴ as int64, on a device, in one copy that does not block."""
    both = [*arrays, *whole]
    flat = torch.from_numpy(np.concatenate([one.ravel() for one in both]).astype(np.float32))
    if device.type == "cuda":
        flat = flat.pin_memory().to(device, non_blocking=True)
    numbers, integers = torch.split(flat, [sum(one.size for one in some) for some in (arrays, whole)])
    parts = [*torch.split(numbers, [one.size for one in arrays])]
    parts += torch.split(integers.long(), [one.size for one in whole]) if whole else []
    return [part.view(one.shape) for part, one in zip(parts, both, strict=True)]
