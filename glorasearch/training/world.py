"""The processes that share the ranks of a training, and what they tell each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from glorasearch.errors import WorkerLostError


class World:
    """One process that carries out every rank itself; `ProcessGroup` is several."""

    @property
    def process(self) -> int:
        """The number of this process, from 0; process 0 alone writes checkpoints and records."""
        return 0

    @property
    def size(self) -> int:
        """How many processes there are."""
        return 1

    def sum(self, rows: Tensor) -> Tensor:
        """The sum `(n,)` of what all ranks have, of which this process's are `rows (ranks, n)`.

        The rows are added one after the other in the order of the ranks, whichever process each is of; so the sum has
        the same bits however many processes there are. Every process calls this, and gets the sum.

        Raises:
            WorkerLostError: if another process has gone.
        """
        return _in_order(rows)

    def broadcast(self, content: bytes) -> bytes:
        """What process 0 gives, in every process.

        Raises:
            WorkerLostError: if another process has gone.
        """
        return content


ALONE: Final = World()
"""The world of one process."""

BACKENDS: Final = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""Of `torch.distributed.init_process_group`, by the kind of device that is trained on."""


class ProcessGroup(World):
    """The processes of torch's default process group, which has been made with one of `BACKENDS`."""

    @property
    def process(self) -> int:
        """See `World.process`."""
        return dist.get_rank()

    @property
    def size(self) -> int:
        """See `World.size`."""
        return dist.get_world_size()

    def sum(self, rows: Tensor) -> Tensor:
        """See `World.sum`: every process adds up its share of the columns, and all of them collect the shares.

        That moves as many bytes as a ring's all-reduce where every process has one rank.
        """
        ranks, length = rows.shape
        share = -(-length // self.size)
        padded = F.pad(rows, (0, share * self.size - length))
        sent = padded.view(ranks, self.size, share).transpose(0, 1).contiguous()
        received = torch.empty_like(sent)
        total = sent.new_empty(self.size * share)
        with self._lost():
            dist.all_to_all_single(received, sent)
            dist.all_gather_into_tensor(total, _in_order(received.view(-1, share)))
        return total[:length]

    def broadcast(self, content: bytes) -> bytes:
        """See `World.broadcast`."""
        size = torch.tensor([len(content)])
        with self._lost():
            dist.broadcast(size, 0)
            sent = bytearray(content) if self.process == 0 else bytearray(int(size))
            if sent:
                dist.broadcast(torch.frombuffer(sent, dtype=torch.uint8), 0)
        return bytes(sent)

    @contextmanager
    def _lost(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # gloo and NCCL have no class of their own for a peer that is gone
            raise WorkerLostError(
                f"process {self.process} of {self.size} of this training cannot reach the others ({_reason(error)}): "
                "one of them has failed, was killed or ran out of memory. Start the same command again: it goes on "
                "from the last checkpoint"
            ) from error


def _reason(error: RuntimeError) -> str:
    """The first sentence of what the library says, without the place in its source."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^\[[^\]]*:\d+\] ", "", lines[0]).partition(". ")[0]


def _in_order(rows: Tensor) -> Tensor:
    """The sum of rows, added one after the other."""
    total = rows[0].clone()
    for row in rows[1:]:
        total += row
    return total
