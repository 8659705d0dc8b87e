"""How the processes that share the ranks of a training communicate."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from glorasearch.errors import WorkerLostError, first_sentence

BACKENDS: Final = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""Device type that is trained on → backend of `torch.distributed.init_process_group`."""


class Communicator(ABC):
    """The collective operations of a training. Every process calls each of them, in the same order."""

    @property
    @abstractmethod
    def process(self) -> int:
        """The number of this process, from 0; only process 0 writes checkpoints and records."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of processes."""

    @abstractmethod
    def sum(self, rows: Tensor) -> Tensor:
        """The sum `(n,)` over all ranks, of which this process holds `rows (ranks, n)`.

        Rows are added one by one in the order of the ranks, whichever process holds them, so the sum has the same bits
        for any number of processes.

        Raises:
            WorkerLostError: if another process is gone.
        """

    @abstractmethod
    def broadcast(self, content: bytes) -> bytes:
        """The content that process 0 passes.

        Raises:
            WorkerLostError: if another process is gone.
        """

    def all_equal(self, content: bytes, device: torch.device) -> bool:
        """Whether all processes pass the same content; `device` is the one that is trained on.

        Raises:
            WorkerLostError: if another process is gone.
        """
        if self.size == 1:
            return True
        differs = float(self.broadcast(content) != content)
        return float(self.sum(torch.tensor([[differs]], device=device))) == 0


class SingleProcess(Communicator):
    """One process that carries out every rank itself."""

    @property
    def process(self) -> int:
        """Always 0."""
        return 0

    @property
    def size(self) -> int:
        """Always 1."""
        return 1

    def sum(self, rows: Tensor) -> Tensor:
        """See `Communicator.sum`."""
        return _sum_in_order(rows)

    def broadcast(self, content: bytes) -> bytes:
        """The content itself."""
        return content


class ProcessGroup(Communicator):
    """The processes of torch's default process group, which was initialised with one of `BACKENDS`."""

    @property
    def process(self) -> int:
        """See `Communicator.process`."""
        return dist.get_rank()

    @property
    def size(self) -> int:
        """See `Communicator.size`."""
        return dist.get_world_size()

    def sum(self, rows: Tensor) -> Tensor:
        """See `Communicator.sum`: each process adds up its share of the columns, then all gather the shares.

        With one rank per process this moves as many bytes as a ring all-reduce.
        """
        ranks, length = rows.shape
        share = -(-length // self.size)
        padded = F.pad(rows, (0, share * self.size - length))
        sent = padded.view(ranks, self.size, share).transpose(0, 1).contiguous()
        received = torch.empty_like(sent)
        total = sent.new_empty(self.size * share)
        with self._peer_errors():
            dist.all_to_all_single(received, sent)
            dist.all_gather_into_tensor(total, _sum_in_order(received.view(-1, share)))
        return total[:length]

    def broadcast(self, content: bytes) -> bytes:
        """See `Communicator.broadcast`."""
        size = torch.tensor([len(content)])
        with self._peer_errors():
            dist.broadcast(size, 0)
            sent = bytearray(content) if self.process == 0 else bytearray(int(size))
            if sent:
                dist.broadcast(torch.frombuffer(sent, dtype=torch.uint8), 0)
        return bytes(sent)

    @contextmanager
    def _peer_errors(self) -> Iterator[None]:
        """Raise `WorkerLostError` where a collective operation fails."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # gloo and NCCL have no class of their own for a peer that is gone
            reason = re.sub(r"^\[[^\]]*:\d+\] ", "", first_sentence(error))  # without the place in the library's source
            raise WorkerLostError(
                f"process {self.process} of {self.size} of this training cannot reach the others ({reason}): "
                "one of them has failed, was killed or ran out of memory. Start the same command again: it resumes "
                "from the last checkpoint"
            ) from error


def _sum_in_order(rows: Tensor) -> Tensor:
    """The sum `(n,)` of `rows (ranks, n)`, added one by one."""
    total = rows[0].clone()
    for row in rows[1:]:
        total += row
    return total
