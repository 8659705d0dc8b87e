"""Images in chunks, in an order that stops hopeless candidates early, and their scores, whose sums do not depend on it.

The one pass over the test split, `outputs_on_test` and `correct_on_test`, is here, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import torch
from numpy.random import default_rng
from torch import Tensor, nn

from glorasearch.data import SearchSplit, TestSplit
from glorasearch.errors import DataError
from glorasearch.evaluation.merged_model import MergedModel
from glorasearch.space import BoundSpace, ClassCounts, sample_within_budget
from glorasearch.space.early_stopping import UNIT
from glorasearch.space.score import BETAS, ScoreSums
from glorasearch.tasks import CLASSIFY, Task

DEVICE_BYTES: Final = 2**30
"""Images that take at most this many bytes as float32 are kept on the device, so that a chunk is a slice."""
COPY_BYTES: Final = 2**26
"""The same on a CPU if the split holds them as float32 itself. Small images cost 2 % of a candidate to extract; of more
than this there is no second copy, since extracting a chunk costs nothing next to its forward."""
REFERENCES: Final = 4
"""Random subnets by which the hardness of images is judged. More cost more than they save
(`benchmarks/bench_early_stopping.py`)."""
TEST_BATCH: Final = 256
"""Images of the test split that are scored at once."""
CPU_BLOCK_BYTES: Final = 2**20
"""Scaled logits of at most this many bytes exist at once on a CPU: they stay in its cache."""
BLOCK_BYTES: Final = 2**28
"""The same on other devices."""
_SEED: Final = 2306_07967


class Chunks:
    """N images in ceil(N / size) chunks of equal size; the last one is padded with its last image, without scores."""

    def __init__(
        self, split: SearchSplit, size: int, order: Tensor, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        """`order` holds the N positions in the split, first to last; `dtype` is that of the images."""
        self.images = len(split)
        self.count = -(-self.images // size)
        self.size = -(-self.images // self.count)
        """Images per chunk: the requested size, or less if that makes the chunks more even."""
        self.labels = split.labels[order].to(device)
        """Targets of the split's task, `(N, ...)`, in the order of the chunks."""
        padded = torch.cat([order, order[-1:].expand(self.count * self.size - self.images)])
        self._split, self._device, self._dtype = split, device, dtype
        self._positions = torch.split(padded, self.size)
        self._kept: list[Tensor] | None = None
        most = COPY_BYTES if device.type == "cpu" and split.keeps_normalised else DEVICE_BYTES
        if 4 * self.images * split.spec.image_bytes <= most:
            first = self._batch(self._positions[0])
            whole = first.new_empty(len(padded), *first.shape[1:])
            self._kept = list(torch.split(whole, self.size))
            for place, positions in zip(self._kept, self._positions, strict=True):
                place.copy_(self._batch(positions))

    def __iter__(self) -> Iterator[Tensor]:
        """The chunks, `(size, C, H, W)` each."""
        return iter(self._kept or map(self._batch, self._positions))

    def _batch(self, positions: Tensor) -> Tensor:
        return self._split.batch(positions, self._device)[0].to(self._dtype)

    @property
    def first(self) -> Tensor:
        """The first chunk."""
        return next(iter(self))

    def by_class(self, classes: int) -> tuple[int, ...]:
        """`(classes,)`: the images of each class."""
        return tuple(self._split.task.images_of(self._split.labels.numpy(), classes))


def natural_order(split: SearchSplit) -> Tensor:
    """The positions 0 to N − 1."""
    return torch.arange(len(split))


@torch.inference_mode()
def hardest_first(
    model: MergedModel, space: BoundSpace, split: SearchSplit, size: int, references: int = REFERENCES
) -> Tensor:
    """The positions of the images sorted by their loss, largest first.

    A pure function of weights, space and split: the loss is the mean over random subnets drawn with a fixed
    seed. The order determines how early a candidate is stopped, never whether it may be.
    """
    chunks = Chunks(split, size, natural_order(split), model.device, model.dtype)
    hardness = torch.zeros(chunks.images, dtype=torch.float64, device=model.device)
    rng = default_rng(_SEED)
    for _ in range(references):
        model.write(sample_within_budget(space, rng))
        logits = torch.cat([model.forward(images).clone() for images in chunks])[: chunks.images]
        hardness += split.task.losses(logits, chunks.labels).nan_to_num(0.0, 0.0, 0.0)
    return hardness.cpu().argsort(descending=True, stable=True)


@cache
def _betas(device: torch.device) -> Tensor:
    """`(K,)`, there already: a copy to a GPU would wait for it."""
    with torch.inference_mode(False):
        return torch.tensor(BETAS, dtype=torch.float64, device=device)


def device_sums(logits: Tensor, labels: Tensor, task: Task = CLASSIFY) -> Tensor:
    """`(1 + K,)` float64: correct images, and units at each of `BETAS`; does not wait.

    Of logits `(n, outputs)` and the targets of a task `(n, ...)`. Images are taken in blocks that bound the memory.
    """
    most = CPU_BLOCK_BYTES if logits.device.type == "cpu" else BLOCK_BYTES
    rows = max(1, most // (8 * len(BETAS) * logits.shape[1]))
    correct, betas = task.right(logits, labels).sum(dtype=torch.float64), _betas(logits.device)
    blocks = zip(torch.split(logits, rows), torch.split(labels, rows), strict=True)
    units = [task.tempered_losses(*block, betas).sum(1) for block in blocks]
    return torch.cat([correct[None], units[0] if len(units) == 1 else torch.stack(units).sum(0)])


@torch.inference_mode()
def tempered_of(logits: Tensor, labels: Tensor, task: Task = CLASSIFY) -> tuple[float, float]:
    """The tempered cross-entropy in nats, and its inverse temperature: a mean over images, as of a `Score`.

    Of logits `(n, outputs)`, n at least 1, and targets `(n, ...)` on one device.
    """
    sums = score_sums(logits, labels, task)
    return sums.tempered / len(labels), sums.beta


@torch.inference_mode()
def score_sums(logits: Tensor, labels: Tensor, task: Task = CLASSIFY) -> ScoreSums:
    """What a score of logits `(n, outputs)` and targets `(n, ...)` is made of; waits for them."""
    return PendingSums(device_sums(logits, labels, task)).wait()


class PendingSums:
    """Sums requested from the device; they are copied while more work is queued behind them."""

    def __init__(self, found: Tensor, split: tuple[int, ...] | None = None) -> None:
        """What `device_sums` returned, or a sum of such; does not wait.

        With `split`, the images of the whole split by label, `device_counts` are appended to it.
        """
        self._split = split
        self._arrived: torch.cuda.Event | None = None
        if found.is_cuda:
            self._found = torch.empty(len(found), dtype=torch.float64, pin_memory=True)
            self._found.copy_(found, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()
        else:
            self._found = found

    def wait(self) -> ScoreSums:
        """The sums, once they have arrived; does not wait for what was queued after them."""
        if self._arrived is not None:
            self._arrived.synchronize()
        correct, *rest = self._found.tolist()
        nats = tuple(one * UNIT for one in rest[: len(BETAS)])
        return ScoreSums(int(correct), nats, self._counts([int(count) for count in rest[len(BETAS) :]]))

    def _counts(self, counts: list[int]) -> ClassCounts | None:
        if self._split is None:
            return None
        classes = len(self._split)
        return ClassCounts(self._split, *(tuple(counts[n * classes : (n + 1) * classes]) for n in range(3)))


def accuracy_on_test(
    model: nn.Module, split: TestSplit, *, device: torch.device | str = "cpu", batch_size: int | None = None
) -> float:
    """Fraction of test images that a plain model classifies correctly; parameters as of `correct_on_test`."""
    found = correct_on_test(model, split, device=device, batch_size=batch_size)
    return int(found.sum()) / len(found)


@dataclass(frozen=True, slots=True)
class TestOutputs:
    """What a model says of the N test images, on the CPU, in their order."""

    __test__ = False  # or pytest would collect the class
    logits: Tensor
    """`(N, classes)`, float32."""
    predicted: Tensor
    """In the form of the task's targets: `(N,)`, the class of the largest."""


def outputs_on_test(
    model: nn.Module,
    split: TestSplit,
    *,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
    mirrored: bool = False,
) -> TestOutputs:
    """All that metrics of a plain model are made of; parameters and exceptions as of `correct_on_test`.

    If `mirrored`, an image is judged together with its mirror image: by the mean of their probabilities, of which the
    logits are the logarithm.
    """
    batches = _over(_Mirrored(model) if mirrored else model, _test_split(split), device, batch_size)
    said = split.task.predicted
    logits, predicted = zip(*((found.float().cpu(), said(found).cpu()) for found, _ in batches), strict=True)
    return TestOutputs(torch.cat(logits), torch.cat(predicted))


def correct_on_test(
    model: nn.Module, split: TestSplit, *, device: torch.device | str = "cpu", batch_size: int | None = None
) -> Tensor:
    """Which test images `(N, C, H, W)` a plain model classifies correctly: `(N,)` bool on the CPU, in their order.

    `batch_size` images are scored at once; `TEST_BATCH` by default.

    Raises:
        DataError: if the split is not the test split.
    """
    batches = _over(model, _test_split(split), device, batch_size)
    return torch.cat([split.task.right(logits, labels) for logits, labels in batches]).cpu()


def logits_on_search(
    model: nn.Module, split: SearchSplit, *, device: torch.device | str = "cpu", batch_size: int | None = None
) -> Tensor:
    """What a plain model says of the images of the search split: `(N, classes)` float32 on the CPU, in their order.

    Raises:
        DataError: if the split is not the search split.
    """
    if not isinstance(split, SearchSplit):
        raise DataError(f"a refit is judged on the search split only, got a {type(split).__name__}")
    return torch.cat([logits.float().cpu() for logits, _ in _over(model, split, device, batch_size)])


class _Mirrored(nn.Module):
    """Logarithms of a model's probabilities, those of an image and its mirror image averaged."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model

    def forward(self, images: Tensor) -> Tensor:
        """`(N, classes)` float32 of `(N, C, H, W)`."""
        both = torch.stack([self._model(one).float().log_softmax(-1) for one in (images, images.flip(-1))])
        return both.logsumexp(0) - math.log(2)


def _test_split(split: TestSplit) -> TestSplit:
    if not isinstance(split, TestSplit):
        raise DataError(f"the report measures on the test split only, got a {type(split).__name__}")
    return split


def _over(
    model: nn.Module, split: SearchSplit | TestSplit, device: torch.device | str, batch_size: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and labels of the images, batch by batch."""
    model, size = model.to(device).eval(), batch_size or TEST_BATCH
    for start in range(0, len(split), size):
        images, labels = split.batch(slice(start, min(start + size, len(split))), device)
        with torch.inference_mode():
            logits = model(images)
        yield logits, labels
