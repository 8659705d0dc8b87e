"""The three splits, each its own type, so that a search on the test split does not type-check."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from glorasearch.data.input_spec import InputSpec
from glorasearch.data.near_pixels import NearPixels
from glorasearch.data.normalisation import Normalisation
from glorasearch.data.pixels import ChosenPixels, JoinedPixels, Pixels
from glorasearch.data.views import View, enlarged
from glorasearch.tasks import CLASSIFY, Task

FLOAT_CACHE_BYTES = 256 * 2**20
"""A split whose normalised images are at most this large is normalised once for each device."""


class _Split:
    """Labelled images, normalised on access.

    Args:
        pixels: N images.
        labels: targets of the task: `(N,)` int64, or `(N, classes)` float32, numbers standardised.
        spec: size and normalisation.
        fingerprints: content hash of each image.
        classes: number of classes, labels or targets: outputs of a model.
        origin: where the split comes from, for the report.
        task: what is asked of the images.
        larger: the N images in a larger view, for augmentations to crop from.
    """

    role = ""

    def __init__(
        self,
        pixels: Pixels,
        labels: Tensor,
        spec: InputSpec,
        fingerprints: Sequence[bytes],
        classes: int,
        origin: str = "",
        task: Task = CLASSIFY,
        larger: Pixels | None = None,
    ) -> None:
        self.labels = labels
        self.task = task
        self.spec = spec
        self.classes = classes
        self.origin = origin
        self.digest = _content_digest(self.role, spec, fingerprints, labels, classes)
        self._pixels, self._larger = pixels, larger
        self._near = NearPixels(pixels, spec.image_bytes)
        self._near_larger = self._near if larger is None else NearPixels(larger, enlarged(spec).image_bytes)
        self._fingerprints = fingerprints
        self._normalise = Normalisation(spec)
        self._labels_on: dict[torch.device, Tensor] = {}
        self._normalised: dict[torch.device, Tensor] = {}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def resident(self) -> bool:
        """Whether the decoded images are kept in memory."""
        return self._pixels.resident

    @property
    def keeps_normalised(self) -> bool:
        """Whether all images are kept normalised, as float32, on each device for which a batch was requested."""
        return self.resident and 4 * len(self) * self.spec.image_bytes <= FLOAT_CACHE_BYTES

    def batch(self, indices: Tensor | slice, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Images and labels; the caller owns both tensors.

        Args:
            indices: `(n,)` integers from 0 and below N on any device, or a slice.
            device: of the result.

        Returns:
            Images `(n, C, H, W)` float32, normalised, and their targets, of `labels`. The values do not depend on the
            other images of the batch.

        Raises:
            IndexError: if an index is out of range.
            DataError: if an image that is decoded on demand can no longer be read.
        """
        with torch.inference_mode(False):  # what is kept may be used for training later, and threads know no such mode
            return self._batch(indices, torch.device(device))

    def _batch(self, indices: Tensor | slice, target: torch.device) -> tuple[Tensor, Tensor]:
        if isinstance(indices, slice):
            indices = torch.arange(*indices.indices(len(self)))
        places = self._places(indices, target)
        labels = self.labels_on(target)[places]
        ready = self._normalised_on(target)
        if ready is not None:
            return ready[places], labels
        return self._normalise(self._near.gather(indices, places)), labels

    def labels_on(self, device: torch.device) -> Tensor:
        """All labels `(N,)` on a device, where they are kept."""
        if device not in self._labels_on:
            self._labels_on[device] = self.labels.to(device)
        return self._labels_on[device]

    def _places(self, indices: Tensor, target: torch.device) -> Tensor:
        """Checked positions on a device; copies to a GPU do not block."""
        indices = indices.to("cpu", torch.int64)
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise IndexError(
                f"the {self.role} split has {len(self)} images; indices up to {int(indices.max())} were requested"
            )
        # Copies to a GPU do not block: they are made from pinned memory and queued behind its work.
        return indices if target.type == "cpu" else indices.pin_memory().to(target, non_blocking=True)

    def first_equals(self) -> list[int]:
        """For every image, the first one that is equal to it: itself where it has no copy."""
        first: dict[bytes, int] = {}
        return [first.setdefault(content, index) for index, content in enumerate(self._fingerprints)]

    def describe(self) -> dict[str, Any]:
        """Summary for the report, as JSON."""
        counts = self.task.images_of(self.labels.numpy(), self.classes)
        return {
            "images": len(self),
            "digest": self.digest,
            "origin": self.origin,
            "classes_without_images": counts.count(0),
            "class_images": counts,
            "in_memory": self.resident,
        }

    def _normalised_on(self, device: torch.device) -> Tensor | None:
        if not self.keeps_normalised:
            return None
        if device not in self._normalised:
            self._normalised[device] = self._normalise(self._pixels.gather(torch.arange(len(self))).to(device))
        return self._normalised[device]


@final
class TrainSplit(_Split):
    """Images on which the supernet and a refit are trained."""

    role = "train"

    @property
    def has_larger(self) -> bool:
        """Whether a larger view of the images is there."""
        return self._larger is not None

    def view(self, indices: Tensor, device: torch.device | str, view: View) -> Tensor:
        """Pixels of images as they are kept, for augmentations; the caller owns them.

        Args:
            indices: `(n,)`, as for `batch`.
            device: of the result.
            view: `larger` is the plain one where there is no other.

        Returns:
            `(n, C, H, W)` uint8.
        """
        with torch.inference_mode(False):
            near = self._near_larger if view == "larger" else self._near
            return near.gather(indices, self._places(indices, torch.device(device)))

    def with_search(self, search: SearchSplit, chosen: Tensor | None = None) -> TrainSplit:
        """These images followed by those of the search split, or by `chosen` ones, `(n,)` indices, for a refit."""
        indices = torch.arange(len(search)) if chosen is None else chosen

        def join(own: Pixels, added: Pixels) -> Pixels:
            return JoinedPixels([own, added if chosen is None else ChosenPixels(added, indices)])

        larger = None
        if self._larger is not None and search._larger is not None:
            larger = join(self._larger, search._larger)
        return TrainSplit(
            join(self._pixels, search._pixels),
            torch.cat([self.labels, search.labels[indices]]),
            self.spec,
            [*self._fingerprints, *(search._fingerprints[index] for index in indices.tolist())],
            self.classes,
            f"{self.origin} and the search split: {search.origin}",
            self.task,
            larger=larger,
        )

    def chosen(self, indices: Tensor) -> TrainSplit:
        """Some of these images, `(n,)` indices, in that order."""
        return TrainSplit(
            ChosenPixels(self._pixels, indices),
            self.labels[indices],
            self.spec,
            [self._fingerprints[index] for index in indices.tolist()],
            self.classes,
            self.origin,
            self.task,
            larger=None if self._larger is None else ChosenPixels(self._larger, indices),
        )


@final
class SearchSplit(_Split):
    """Images on which candidates are scored."""

    role = "search"


@final
class TestSplit(_Split):
    """Images that the final report reads, once."""

    __test__ = False  # or pytest would collect the class
    role = "test"


def _content_digest(role: str, spec: InputSpec, fingerprints: Sequence[bytes], labels: Tensor, classes: int) -> str:
    """SHA-256, hexadecimal, of the role, the input, the images' content in order, and the labels."""
    content = hashlib.sha256(f"{role} {spec.describe()} {classes} {len(labels)}\n".encode())
    for fingerprint in fingerprints:
        content.update(fingerprint)
    kind = "<f4" if labels.is_floating_point() else "<i8"
    content.update(np.ascontiguousarray(labels.numpy().astype(kind)).tobytes())
    return content.hexdigest()
